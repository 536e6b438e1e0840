"""What a reader may get from the cache, by what the origin has given it.

Several servers may share a directory that are not the same to the origin. A *reader* is one that
asks the origin under one identity. The origin is asked for each reader, and its answer counts for
that reader alone, except that an object is gone or replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from rangeserver.cache.cache import Cache
from rangeserver.cache.entry import Entry
from rangeserver.cache.header import NEVER
from rangeserver.cache.header_notes import note_checked, note_refused
from rangeserver.cache.moments import age_of, validated_at
from rangeserver.errors import AccessDenied, AccessHidden, ObjectWithdrawn
from rangeserver.origin.base import Origin
from rangeserver.protocol.freshness import Freshness, FreshnessLimits, freshness_limits
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

_FIRST_BYTE = AskedRange(0, 0)


class ReadingRights:
    """Those of ``reader``, which asks ``origin``, to what is in ``cache``."""

    def __init__(self, reader: Callable[[], str], origin: Origin[bytes], cache: Cache) -> None:
        self._reader = reader
        self._origin = origin
        self._cache = cache
        self._rules = cache.config.freshness_rules
        self._proving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def may_read(self, entry: Entry) -> bool:
        """Whether the origin has given this reader bytes of the version. One that only knows its
        facts may get none: HEAD needs no right to decrypt, GET does.
        """
        return self._reader() in entry.file.header.readers

    def fresh_facts(self, entry: Entry) -> ObjectFacts | None:
        """The facts of an entry, if they may be used without asking the origin."""
        moment, age, limits = self._age_and_limits(entry)
        fresh = limits.at(age) is Freshness.FRESH
        return validated_at(entry.file.header.facts, moment) if fresh else None

    def facts_if_error(self, entry: Entry) -> ObjectFacts | None:
        """The facts of an entry, if they may be used because the origin cannot be asked."""
        moment, age, limits = self._age_and_limits(entry)
        usable = age < limits.stale_if_error
        return validated_at(entry.file.header.facts, moment) if usable else None

    async def create(self, cache_key: str, facts: ObjectFacts) -> Entry | None:
        """The entry of a version of which the origin gave this reader bytes; ``None`` if there can
        be none.
        """
        return await self._cache.create(cache_key, facts, self._reader())

    async def checked(self, entry: Entry, facts: ObjectFacts) -> None:
        """Note that the origin gave this reader these facts of the version of an entry."""
        await note_checked(self._cache, entry, facts, self._reader())

    async def withdrawn(self, entry: Entry, error: ObjectWithdrawn) -> None:
        """Note that the origin refuses the version of an entry to this reader, or to all."""
        if not self.may_read(entry):
            return
        if isinstance(error, AccessDenied | AccessHidden):
            await note_refused(self._cache, entry, self._reader())
        else:
            await self._cache.drop(entry)

    async def first_byte(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version, from an answer with a byte of it."""
        async with self._origin.open(key, _FIRST_BYTE) as opened:
            if opened.begun is not None:
                async for _ in opened.begun.parts:
                    pass  # read to its end, the connection can be used again
        return opened.facts

    async def prove(self, entry: Entry, facts: ObjectFacts) -> None:
        """Have the origin give this reader a byte of a version that it has given to others. Raises
        :class:`~rangeserver.errors.OriginError`.
        """
        proving = self._proving.setdefault(entry.cache_key, asyncio.Lock())
        async with proving:
            if not self.may_read(entry):
                async with self._origin.read(facts, ByteSpan(0, 1)) as parts:
                    async for _ in parts:
                        pass
                await self.checked(entry, facts)

    def _age_and_limits(self, entry: Entry) -> tuple[float, float, FreshnessLimits]:
        """When the origin gave this reader the facts, how long ago that is, and their limits."""
        header = entry.file.header
        moment = header.readers.get(self._reader(), NEVER)
        limits = freshness_limits(header.facts, self._rules, date=moment)
        return moment, age_of(moment), limits
