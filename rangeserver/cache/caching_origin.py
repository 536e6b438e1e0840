"""An origin with the cache in front of it.

The first request for an object brings facts and bytes with one GET of whole blocks, which the
cache takes over. Whatever is not in the cache is fetched by it, and read from its file behind
the fetch. What must not be kept, or cannot be for the moment, is read past it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial

from rangeserver import lru
from rangeserver.cache.cache import Cache
from rangeserver.cache.cache_key import cache_key_of
from rangeserver.cache.checks import Checks
from rangeserver.cache.entry import Entry
from rangeserver.cache.heeding import HeedingReads
from rangeserver.cache.held import HeldSpan
from rangeserver.cache.metadata import MAX_OBJECTS
from rangeserver.cache.read_ahead import MIN_FETCH_BYTES
from rangeserver.cache.read_through import ReadThrough
from rangeserver.cache.reading_rights import ReadingRights
from rangeserver.cache.transfer import adopt_read
from rangeserver.cache.worth import Worth
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
from rangeserver.origin.base import Opened, Part, ReadReport
from rangeserver.origin.identity import reader
from rangeserver.protocol.cache_control import may_be_stored
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

_NO_ANSWER = (OriginBusy, OriginServerError, OriginThrottled, OriginTimeout, OriginUnreachable)
"""The origin could not be asked: what is known may be told, if the configuration allows."""

_CHECK_PART = 1 / 3
"""Of a client's deadline for the first byte: how long it waits to be told what is current, where it
can have what is kept.
"""

_SEEN_SECONDS = 0.01
"""So late it may be noticed that a file was removed, while it is read at a great rate."""


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
        self._worth = Worth(cache)
        self._checks = Checks(cache.tasks, config.response_seconds * _CHECK_PART)
        self._key_prefix = cache_key_of(config.endpoint_url, config.bucket, config.prefix)
        self._gives_what_is_gone = config.use_version_ids
        """Then a file may have been removed because its object is gone, and nothing shows it when
        another is made for the same version: no more is noted of that than was told just now."""
        self._not_kept: OrderedDict[ObjectKey, None] = OrderedDict()
        """Objects that must not be kept, by what was last told of them."""
        self._reads = HeedingReads(inner, self._version_withdrawn)

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version; while the origin cannot be asked, those of the
        version in the cache.
        """
        entry = await self.cache.find(self.cache_key(key))
        return (await self._checked(key, entry)).facts

    @asynccontextmanager
    async def open(self, key: ObjectKey, wanted: AskedRange) -> AsyncIterator[Opened[Part]]:
        """Facts, and bytes only of what is not cached."""
        async with AsyncExitStack() as stack:
            yield await self._opened(stack, key, wanted)

    def read(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AbstractAsyncContextManager[AsyncIterator[Part]]:
        """The bytes of ``span``, from the cache as far as they are there."""
        return ReadThrough(
            *(self.cache, self._reads, facts, span),
            find=self._entry_for,
            find_again=self._entry,
        )

    def held(self, facts: ObjectFacts, span: ByteSpan, report: ReadReport) -> HeldSpan | None:
        """The bytes of ``span``, if all of them are in the cache and the first in memory."""
        entry = self.cache.find_open(self.cache_key(facts.key), seen_within=_SEEN_SECONDS)
        if entry is None or not _is_of(entry, facts) or not self._rights.may_read(entry):
            return None
        held = HeldSpan(self.cache, entry, span, report)
        return held if held.advance() else None

    async def _opened(
        self, stack: AsyncExitStack, key: ObjectKey, wanted: AskedRange
    ) -> Opened[Part]:
        cache_key = self.cache_key(key)
        entry = await self.cache.find(cache_key)
        if entry is None and key in self._not_kept:
            return await self._asked_past(stack, key, wanted)
        if entry is None:
            async with self.cache.fetch_lock(cache_key):
                entry = await self.cache.find(cache_key)
                if entry is None:
                    return await self._first(stack, key, cache_key, wanted)
        if self.cache.config.ttl_seconds:
            await self.cache.reread(entry)
            known = self._rights.believed(entry)
            if known is not None:
                return Opened(known, believed=True)
        return await self._checked(key, entry, proving=not self._rights.may_read(entry))

    async def _first(
        self, stack: AsyncExitStack, key: ObjectKey, cache_key: str, wanted: AskedRange
    ) -> Opened[Part]:
        """Ask for an object of which nothing is in the cache."""
        around = self._whole_blocks(wanted)
        if not (
            self.cache.may_keep(cache_key) and self._worth.of_unknown(cache_key, wanted, around)
        ):
            return await self._asked_past(stack, key, wanted)
        inner = await stack.enter_async_context(AsyncExitStack())
        opened = await inner.enter_async_context(self.inner.begin(key, around))
        if opened.parts is None:
            return opened
        if self._may_be_kept(opened.facts):
            entry = await self._rights.create(cache_key, opened.facts)
            if entry is not None and _is_of(entry, opened.facts):
                if not self._rights.may_read(entry):  # somebody else was faster
                    await self._rights.checked(entry, opened.facts)
                heeding = self._reads.go_on(opened.facts, opened.parts)
                parts = await inner.enter_async_context(aclosing(heeding))
                await self._take_over(entry, opened, parts, inner)
                await inner.aclose()  # if it was not taken over, nobody will read it
                return Opened(opened.facts)
        span = wanted.span(opened.facts.size)
        if span.start < opened.span.start:
            await inner.aclose()
            return Opened(opened.facts)
        self.cache.metrics.bypassed()
        past = self._past(opened, inner, span)
        return Opened(opened.facts, span, await stack.enter_async_context(aclosing(past)))

    async def _asked_past(
        self, stack: AsyncExitStack, key: ObjectKey, wanted: AskedRange
    ) -> Opened[Part]:
        """Just what is wanted, with nothing of it kept."""
        self.cache.metrics.bypassed()
        opened = await stack.enter_async_context(self.inner.open(key, wanted))
        self._may_be_kept(opened.facts)
        return opened

    def _may_be_kept(self, facts: ObjectFacts) -> bool:
        """Whether an object may be, which is remembered: the next one who asks for one that may not
        neither waits for others nor has more fetched than he wants.
        """
        if may_be_stored(facts.cache_control):
            self._not_kept.pop(facts.key, None)
            return True
        lru.put(self._not_kept, facts.key, None, max_entries=MAX_OBJECTS)
        return False

    async def _past(
        self, opened: Opened[bytes], stack: AsyncExitStack, wanted: ByteSpan
    ) -> AsyncGenerator[bytes]:
        """What the cache did not take of a read that has begun, and what comes after it."""
        async with (
            aclosing(self.inner.resumed(opened, stack)) as parts,
            aclosing(_cut(parts, opened.span, wanted)) as begun,
        ):
            async for part in begun:
                yield part
        await stack.aclose()
        rest = ByteSpan(max(wanted.start, opened.span.stop), wanted.stop)
        if rest.length > 0:
            async with self.inner.read(opened.facts, rest) as following:
                async for part in following:
                    yield part

    async def _take_over(
        self,
        entry: Entry,
        opened: Opened[bytes],
        parts: AsyncIterator[bytes],
        stack: AsyncExitStack,
    ) -> None:
        """Let the cache have the bytes that came with the facts."""
        layout = entry.layout
        first = -(-opened.span.start // layout.block_bytes)
        stop = layout.blocks_of(opened.span)[1]
        if layout.start(stop) > opened.span.stop:
            stop -= 1
        if first >= stop or entry.missing_run(first, stop) < stop:
            return
        await adopt_read(
            *(self.cache, entry, (first, stop), partial(self._reads.once, opened.facts)),
            parts=parts,
            start=opened.span.start,
            opened=stack.pop_all(),
        )

    async def _checked(
        self, key: ObjectKey, entry: Entry | None, *, proving: bool = False
    ) -> Opened[Part]:
        """What the origin says now of an object of which something may be in the cache; if
        ``proving``, by a byte of it.
        """
        asking = partial(self._asked, key, entry, proving=proving)
        may_be_told = entry is not None and self._rights.believed(entry, failing=True) is not None
        try:
            facts = await (self._checks.facts(key, asking) if may_be_told else asking())
        except _NO_ANSWER as error:
            stale = await self._stale(key) if entry is not None else None
            if stale is None:
                raise
            log.info("cache: %s is taken to be as it was: %s", key, error)
            self.cache.metrics.served_stale()
            return Opened(stale, believed=True)
        return Opened(facts)

    async def _asked(self, key: ObjectKey, entry: Entry | None, *, proving: bool) -> ObjectFacts:
        """The same, which is noted of what is kept."""
        try:
            facts = await (self._rights.first_byte(key) if proving else self.inner.describe(key))
        except ObjectWithdrawn as error:
            if entry is not None:
                await self._rights.withdrawn(entry, error)
            raise
        if entry is not None and (proving or self._rights.may_read(entry)):
            if _is_of(entry, facts) and self._may_be_kept(facts):
                await self._rights.checked(entry, facts)
            else:
                await self.cache.drop(entry)
        return facts

    async def _version_withdrawn(self, facts: ObjectFacts, error: ObjectWithdrawn) -> None:
        """Something of a version was refused that may be in the cache."""
        entry = await self.cache.find(self.cache_key(facts.key))
        if entry is not None and _is_of(entry, facts):
            await self._rights.withdrawn(entry, error)

    async def _stale(self, key: ObjectKey) -> ObjectFacts | None:
        """What may be told of an object while the origin cannot be asked. Other processes may have
        learned meanwhile that it is gone.
        """
        entry = await self.cache.find(self.cache_key(key))
        if entry is None:
            return None
        await self.cache.reread(entry)
        return self._rights.believed(entry, failing=True)

    async def _entry_for(self, facts: ObjectFacts, span: ByteSpan) -> Entry | None:
        """The entry to read a span of just this version from, if that is worth it."""
        cache_key = self.cache_key(facts.key)
        entry = await self.cache.find(cache_key)
        if entry is not None and not _is_of(entry, facts):
            return None
        worth = await self._worth.of(cache_key, facts.size, span, entry)
        return await self._entry(facts) if worth else None

    async def _entry(self, facts: ObjectFacts) -> Entry | None:
        """The entry of just this version, if there is or can be one."""
        if not facts.size or not may_be_stored(facts.cache_control):
            return None
        cache_key = self.cache_key(facts.key)
        entry = await self.cache.find(cache_key)
        if entry is None:
            if self._gives_what_is_gone and facts.age(time.monotonic()) > 0:
                facts = replace(facts, told_at=-math.inf)
            entry = await self._rights.create(cache_key, facts)
        if entry is None or not _is_of(entry, facts):
            # Another version: somebody knows better than we do, or will have noticed by the next
            # time the origin is asked.
            return None
        if not self._rights.may_read(entry):
            await self._rights.prove(entry, facts)
        return entry

    def cache_key(self, key: ObjectKey) -> str:
        """Its key in the cache."""
        return self._key_prefix + key

    def _whole_blocks(self, wanted: AskedRange) -> AskedRange:
        """A range of whole blocks around what is wanted, or around its beginning."""
        block = int(self.cache.config.block_bytes)
        if wanted.first is None:  # a suffix: somewhere in its first block more a block begins
            return AskedRange(None, min(wanted.last or 0, MIN_FETCH_BYTES) + block)
        first = wanted.first // block * block
        last = first + max(MIN_FETCH_BYTES, block) - 1
        if wanted.last is not None:
            last = min(last, (wanted.last // block + 1) * block - 1)
        return AskedRange(first, last)


def _is_of(entry: Entry, facts: ObjectFacts) -> bool:
    """Whether the bytes of an entry are those of just this version."""
    return entry.etag == facts.etag and entry.layout.size == facts.size


async def _cut(
    parts: AsyncIterator[bytes], span: ByteSpan, wanted: ByteSpan
) -> AsyncGenerator[bytes]:
    """Of the bytes of ``span``, those of ``wanted``."""
    position = span.start
    async for part in parts:
        start = max(wanted.start - position, 0)
        piece = part[start : wanted.stop - position]
        position += len(part)
        if piece:
            yield piece
        if position >= wanted.stop:
            break
