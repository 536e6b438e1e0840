"""What the cache may give to one who asks the origin, by what that has told him.

Several may share a directory who are not the same to the origin. It is asked for each of them, and
what it says to one counts for him alone, but for that an object is gone or replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from rangeserver.cache.cache import Cache
from rangeserver.cache.entry import Entry
from rangeserver.cache.header import NEVER
from rangeserver.cache.moments import as_told, seconds_since
from rangeserver.errors import AccessDenied, AccessHidden, ObjectWithdrawn
from rangeserver.origin.base import Origin
from rangeserver.protocol.freshness import belief
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

_FIRST_BYTE = AskedRange(0, 0)


class ReadingRights:
    """Those of ``reader``, who asks ``origin``, to what is kept in ``cache``."""

    def __init__(self, reader: Callable[[], str], origin: Origin[bytes], cache: Cache) -> None:
        self._reader = reader
        self._origin = origin
        self._cache = cache
        self._rules = cache.config.belief_rules
        self._proving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def may_read(self, entry: Entry) -> bool:
        """Whether the origin has given bytes of it to us: whoever only may know what it is like
        (HEAD needs no right to decrypt) gets none from here either.
        """
        return self._reader() in entry.file.header.readers

    def believed(self, entry: Entry, *, failing: bool = False) -> ObjectFacts | None:
        """The facts of an entry, if they may be told now without asking the origin, or because it
        cannot be asked.
        """
        known = entry.file.header
        told = known.readers.get(self._reader(), NEVER)
        may = belief(known.facts, self._rules, date=told)
        limit = may.if_error if failing else may.fresh
        return as_told(known.facts, told) if seconds_since(told) < limit else None

    async def create(self, cache_key: str, facts: ObjectFacts) -> Entry | None:
        """The entry of a version that we were told of, if there can be one."""
        return await self._cache.create(cache_key, facts, self._reader())

    async def checked(self, entry: Entry, facts: ObjectFacts) -> None:
        """Note that we were told these facts of an entry's version."""
        await self._cache.checked(entry, facts, self._reader())

    async def withdrawn(self, entry: Entry, error: ObjectWithdrawn) -> None:
        """What the origin refuses to one it may still give to others, whom it has given it."""
        if not self.may_read(entry):
            return
        if isinstance(error, AccessDenied | AccessHidden):
            await self._cache.refused(entry, self._reader())
        else:
            await self._cache.drop(entry)

    async def first_byte(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version, told with a byte of it."""
        async with self._origin.open(key, _FIRST_BYTE) as opened:
            if opened.begun is not None:
                async for _ in opened.begun.parts:
                    pass  # read to its end, the connection can be used again
        return opened.facts

    async def prove(self, entry: Entry, facts: ObjectFacts) -> None:
        """Have the origin give us a byte of a version that it has given to others. Raises
        :class:`~rangeserver.errors.OriginError`.
        """
        proving = self._proving.setdefault(entry.cache_key, asyncio.Lock())
        async with proving:
            if not self.may_read(entry):
                async with self._origin.read(facts, ByteSpan(0, 1)) as parts:
                    async for _ in parts:
                        pass
                await self.checked(entry, facts)
