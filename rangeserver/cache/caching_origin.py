"""An origin with the cache in front of it.

The first request for an object brings facts and bytes with one GET of whole blocks, which the
cache takes over. What is not in the cache is fetched by it, and read from its file behind the
fetch. What must not be cached, or cannot be at the moment, is read past the cache.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from functools import partial

from rangeserver import lru
from rangeserver.cache.cache import Cache
from rangeserver.cache.cached_representation import CachedRepresentation
from rangeserver.cache.entry import Entry
from rangeserver.cache.header_notes import reread_header
from rangeserver.cache.metadata import MAX_OBJECTS
from rangeserver.cache.object_lock import object_lock
from rangeserver.cache.read_ahead import MIN_FETCH_BYTES
from rangeserver.cache.read_past import read_past
from rangeserver.cache.reading_rights import ReadingRights
from rangeserver.cache.resident_span import ResidentSpan
from rangeserver.cache.revalidation import Revalidations
from rangeserver.cache.transfer import adopt_read
from rangeserver.cache.version_entries import VersionEntries, is_of
from rangeserver.cache.watched_reads import WatchedReads
from rangeserver.config import OriginConfig
from rangeserver.errors import (
    ObjectWithdrawn,
    OriginBusy,
    OriginServerError,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.origin.attempts import AttemptedOrigin
from rangeserver.origin.base import Begun, Part, ReadReport, Representation
from rangeserver.origin.identity import reader
from rangeserver.protocol.cache_control import may_be_stored
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

_NO_ANSWER = (OriginBusy, OriginServerError, OriginThrottled, OriginTimeout, OriginUnreachable)
"""The origin could not be asked: stale facts may be used, if the configuration allows it."""

_WAIT_PART = 1 / 3
"""Part of a client's deadline for the first byte that it waits for a revalidation, where it can
have what is cached.
"""


class CachingOrigin:
    """Objects of one bucket, read through ``cache``."""

    def __init__(
        self, inner: AttemptedOrigin, cache: Cache, config: OriginConfig, whose: Callable[[], str]
    ) -> None:
        """``whose`` keys the origin is asked with: nobody gets from the cache what the origin has
        given to others alone.
        """
        self.inner = inner
        self.cache = cache
        self._rights = ReadingRights(reader(config, whose), inner, cache)
        self._entries = VersionEntries(cache, self._rights, config)
        self._revalidations = Revalidations(cache.tasks, config.response_seconds * _WAIT_PART)
        self._unstorable: OrderedDict[ObjectKey, None] = OrderedDict()
        """Objects whose latest facts forbid to store them."""
        self._reads = WatchedReads(inner, self._version_withdrawn)

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version, from the origin; while that cannot be asked, those of
        the version in the cache, if the configuration allows it.
        """
        return (await self._revalidated(key, await self._entries.find(key))).facts

    @asynccontextmanager
    async def open(self, key: ObjectKey, wanted: AskedRange) -> AsyncIterator[Representation[Part]]:
        """The current version, with a read only of what is not cached."""
        async with AsyncExitStack() as stack:
            yield await self._opened(stack, key, wanted)

    def representation(
        self, facts: ObjectFacts, *, unvalidated: bool = False
    ) -> Representation[Part]:
        """The version that these facts describe."""
        return self._represented(facts, unvalidated=unvalidated)

    def read(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AbstractAsyncContextManager[AsyncIterator[Part]]:
        """The bytes of ``span``, from the cache as far as they are there."""
        return self._represented(facts).read(span)

    def resident(
        self, facts: ObjectFacts, span: ByteSpan, report: ReadReport
    ) -> ResidentSpan | None:
        """The bytes of ``span``, if all of them are cached, and the first in memory."""
        entry = self._entries.resident(facts)
        if entry is None:
            return None
        resident = ResidentSpan(self.cache, entry, span, report)
        return resident if resident.advance() else None

    def cache_key(self, key: ObjectKey) -> str:
        """The key of an object in the cache."""
        return self._entries.cache_key(key)

    def _represented(
        self,
        facts: ObjectFacts,
        *,
        entry: Entry | None = None,
        begun: Begun[Part] | None = None,
        unvalidated: bool = False,
    ) -> CachedRepresentation:
        return CachedRepresentation(
            *(facts, self, self._entries, self._reads),
            entry=entry,
            begun=begun,
            unvalidated=unvalidated,
        )

    async def _opened(
        self, stack: AsyncExitStack, key: ObjectKey, wanted: AskedRange
    ) -> CachedRepresentation:
        cache_key = self.cache_key(key)
        entry = await self.cache.find(cache_key)
        if entry is None and key in self._unstorable:
            return await self._opened_past(stack, key, wanted)
        if entry is None:
            async with object_lock(self.cache, cache_key):
                entry = await self.cache.find(cache_key)
                if entry is None:
                    return await self._opened_first(stack, key, cache_key, wanted)
        if self.cache.config.ttl_seconds:
            await reread_header(self.cache, entry)
            facts = self._rights.fresh_facts(entry)
            if facts is not None:
                return self._represented(facts, entry=entry, unvalidated=True)
        return await self._revalidated(key, entry, proving=not self._rights.may_read(entry))

    async def _opened_first(
        self, stack: AsyncExitStack, key: ObjectKey, cache_key: str, wanted: AskedRange
    ) -> CachedRepresentation:
        """Open an object of which nothing is in the cache."""
        around = self._whole_blocks(wanted)
        worth = self._entries.worth
        if not (self.cache.may_keep(cache_key) and worth.of_unknown(cache_key, wanted, around)):
            return await self._opened_past(stack, key, wanted)
        inner = await stack.enter_async_context(AsyncExitStack())
        opened = await inner.enter_async_context(self.inner.begin(key, around))
        facts, begun = opened.facts, opened.begun
        if begun is None:
            return self._represented(facts)
        if self._may_be_stored(facts):
            entry = await self._rights.create(cache_key, facts)
            if entry is not None and is_of(entry, facts):
                if not self._rights.may_read(entry):  # another process was faster
                    await self._rights.checked(entry, facts)
                parts = self._reads.go_on(facts, begun.parts)
                watched = Begun(begun.span, await inner.enter_async_context(aclosing(parts)))
                await self._take_over(entry, facts, watched, inner)
                await inner.aclose()  # if it was not taken over, nobody will read it
                return self._represented(facts, entry=entry)
        span = wanted.span(facts.size)
        if span.start < begun.span.start:
            await inner.aclose()
            return self._represented(facts)
        self.cache.metrics.bypassed()
        past = await stack.enter_async_context(
            aclosing(read_past(self.inner, facts, begun, inner, span))
        )
        return self._represented(facts, begun=Begun(span, past))

    async def _opened_past(
        self, stack: AsyncExitStack, key: ObjectKey, wanted: AskedRange
    ) -> CachedRepresentation:
        """Open just what is wanted, and cache nothing of it."""
        self.cache.metrics.bypassed()
        opened = await stack.enter_async_context(self.inner.open(key, wanted))
        self._may_be_stored(opened.facts)
        return self._represented(opened.facts, begun=opened.begun)

    def _may_be_stored(self, facts: ObjectFacts) -> bool:
        """Whether an object may be stored. This is remembered: the next request for one that may
        not neither waits for others nor fetches more than it wants.
        """
        if may_be_stored(facts.cache_control):
            self._unstorable.pop(facts.key, None)
            return True
        lru.put(self._unstorable, facts.key, None, max_entries=MAX_OBJECTS)
        return False

    async def _take_over(
        self, entry: Entry, facts: ObjectFacts, begun: Begun[bytes], stack: AsyncExitStack
    ) -> None:
        """Let the cache have the bytes that came with the facts."""
        layout = entry.layout
        first = -(-begun.span.start // layout.block_bytes)
        stop = layout.blocks_of(begun.span)[1]
        if layout.start(stop) > begun.span.stop:
            stop -= 1
        if first >= stop or entry.missing_run(first, stop) < stop:
            return
        await adopt_read(
            *(self.cache, entry, (first, stop), partial(self._reads.once, facts)),
            parts=begun.parts,
            start=begun.span.start,
            opened=stack.pop_all(),
        )

    async def _revalidated(
        self, key: ObjectKey, entry: Entry | None, *, proving: bool = False
    ) -> CachedRepresentation:
        """The current version according to the origin, of an object that may have this entry; if
        ``proving``, the origin also has to give a byte of it.
        """
        asking = partial(self._asked, key, entry, proving=proving)
        may_be_stale = entry is not None and self._rights.facts_if_error(entry) is not None
        try:
            facts = await (self._revalidations.facts(key, asking) if may_be_stale else asking())
        except _NO_ANSWER as error:
            stale = await self._stale(key) if entry is not None else None
            if stale is None:
                raise
            log.info("cache: %s is taken to be as it was: %s", key, error)
            self.cache.metrics.served_stale()
            return stale
        return self._represented(facts, entry=entry)

    async def _asked(self, key: ObjectKey, entry: Entry | None, *, proving: bool) -> ObjectFacts:
        """The facts from the origin, which are noted in the entry."""
        try:
            facts = await (self._rights.first_byte(key) if proving else self.inner.describe(key))
        except ObjectWithdrawn as error:
            if entry is not None:
                await self._rights.withdrawn(entry, error)
            raise
        if entry is not None and (proving or self._rights.may_read(entry)):
            if is_of(entry, facts) and self._may_be_stored(facts):
                await self._rights.checked(entry, facts)
            else:
                await self.cache.drop(entry)
        return facts

    async def _version_withdrawn(self, facts: ObjectFacts, error: ObjectWithdrawn) -> None:
        """The origin refused a read of a version that may be in the cache."""
        entry = await self._entries.find(facts.key)
        if entry is not None and is_of(entry, facts):
            await self._rights.withdrawn(entry, error)

    async def _stale(self, key: ObjectKey) -> CachedRepresentation | None:
        """What may be used of an object while the origin cannot be asked. Other processes may have
        learned meanwhile that it is gone.
        """
        entry = await self._entries.find(key)
        if entry is None:
            return None
        await reread_header(self.cache, entry)
        facts = self._rights.facts_if_error(entry)
        if facts is None:
            return None
        return self._represented(facts, entry=entry, unvalidated=True)

    def _whole_blocks(self, wanted: AskedRange) -> AskedRange:
        """A range of whole blocks around what is wanted, or around its beginning."""
        block = int(self.cache.config.block_bytes)
        if wanted.first is None:  # a suffix: a block begins somewhere in one block more
            return AskedRange(None, min(wanted.last or 0, MIN_FETCH_BYTES) + block)
        first = wanted.first // block * block
        last = first + max(MIN_FETCH_BYTES, block) - 1
        if wanted.last is not None:
            last = min(last, (wanted.last // block + 1) * block - 1)
        return AskedRange(first, last)
