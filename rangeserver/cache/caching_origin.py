"""An origin with the cache in front of it.

The first request for an object brings facts and bytes with one GET of whole blocks, which the
cache takes over. Whatever is not in the cache is fetched by it, and read from its file behind
the fetch. What must not be kept, or cannot be for the moment, is read past it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager

from rangeserver.cache.cache import Cache
from rangeserver.cache.directory import place_of
from rangeserver.cache.entry import Entry
from rangeserver.cache.fill import Fill
from rangeserver.cache.header import Header
from rangeserver.cache.held import HeldSpan
from rangeserver.cache.read_ahead import MIN_FETCH_BYTES
from rangeserver.cache.read_through import ReadThrough
from rangeserver.config import OriginConfig
from rangeserver.errors import (
    ObjectNotFound,
    OriginBusy,
    OriginServerError,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.origin.base import Opened, Origin, Part, ReadReport
from rangeserver.protocol.cache_control import may_be_believed, may_be_stale, may_be_stored
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

log = logging.getLogger(__name__)

_NO_ANSWER = (OriginBusy, OriginServerError, OriginThrottled, OriginTimeout, OriginUnreachable)
"""The origin could not be asked: what is known may be told, if the configuration allows."""

_SEEN_SECONDS = 0.01
"""So late it may be noticed that a file was removed, while it is read at a great rate."""


class CachingOrigin:
    """Objects of one bucket, read through ``cache``."""

    def __init__(self, inner: Origin[bytes], cache: Cache, config: OriginConfig) -> None:
        self.inner = inner
        self.cache = cache
        self._places = place_of(config.endpoint_url, config.bucket, config.prefix)
        self._ttl = cache.config.ttl_seconds
        self._stale_if_error = cache.config.stale_if_error_seconds

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version; while the origin cannot be asked, those of the
        version in the cache.
        """
        return (await self._checked(key, await self.cache.find(self.place(key)))).facts

    @asynccontextmanager
    async def open(self, key: ObjectKey, wanted: AskedRange) -> AsyncIterator[Opened[Part]]:
        """Facts, and bytes only of what is not cached."""
        async with AsyncExitStack() as stack:
            yield await self._opened(stack, key, wanted)

    def read(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AbstractAsyncContextManager[AsyncIterator[Part]]:
        """The bytes of ``span``, from the cache as far as they are there."""
        return ReadThrough(self.cache, self.inner, self._entry, facts, span)

    def held(self, facts: ObjectFacts, span: ByteSpan, report: ReadReport) -> HeldSpan | None:
        """The bytes of ``span``, if all of them are in the cache and the first in memory."""
        entry = self.cache.kept(self.place(facts.key), seen_within=_SEEN_SECONDS)
        if entry is None or not _is_of(entry, facts):
            return None
        held = HeldSpan(self.cache, entry, span, report)
        return held if held.advance() else None

    async def _opened(
        self, stack: AsyncExitStack, key: ObjectKey, wanted: AskedRange
    ) -> Opened[Part]:
        place = self.place(key)
        entry = await self.cache.find(place)
        if entry is None:
            async with self.cache.asking_first(place):
                entry = await self.cache.find(place)
                if entry is None:
                    return await self._first(stack, key, place, wanted)
        if self._ttl:
            await self.cache.reread(entry)
            known = entry.file.header
            age = time.time() - known.checked
            if 0 <= age < self._ttl and may_be_believed(known.facts.cache_control):
                return Opened(known.facts, believed=True, age=age)
        return await self._checked(key, entry)

    async def _first(
        self, stack: AsyncExitStack, key: ObjectKey, place: str, wanted: AskedRange
    ) -> Opened[Part]:
        """Ask for an object of which nothing is in the cache."""
        if not self.cache.may_write():
            return await stack.enter_async_context(self.inner.open(key, wanted))
        inner = await stack.enter_async_context(AsyncExitStack())
        opened = await inner.enter_async_context(self.inner.open(key, self._whole_blocks(wanted)))
        if opened.parts is None:
            return opened
        if may_be_stored(opened.facts.cache_control):
            entry = await self.cache.create(place, opened.facts, checked=time.time())
            if entry is not None and _is_of(entry, opened.facts):
                await self._take_over(entry, opened, opened.parts, inner)
                await inner.aclose()  # if it was not taken over, nobody will read it
                return Opened(opened.facts)
        span = wanted.span(opened.facts.size)
        if span.start < opened.span.start:
            await inner.aclose()
            return Opened(opened.facts)
        self.cache.metrics.bypassed()
        parts = self._past(opened, opened.parts, inner, span)
        return Opened(opened.facts, span, await stack.enter_async_context(aclosing(parts)))

    async def _past(
        self,
        opened: Opened[bytes],
        parts: AsyncIterator[bytes],
        stack: AsyncExitStack,
        wanted: ByteSpan,
    ) -> AsyncGenerator[bytes]:
        """What the cache did not take of a read that has begun, and what comes after it."""
        async with aclosing(_cut(parts, opened.span, wanted)) as begun:
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
        fill = Fill(self.cache, entry, (first, stop))
        await fill.adopt(parts, opened.span.start, stack.pop_all())

    async def _checked(self, key: ObjectKey, entry: Entry | None) -> Opened[Part]:
        """What the origin says now of an object of which something is in the cache."""
        try:
            facts = await self.inner.describe(key)
        except ObjectNotFound:
            if entry is not None:
                await self.cache.drop(entry)
            raise
        except _NO_ANSWER as error:
            known = entry.file.header if entry is not None else None
            if known is None or not self._may_tell(known):
                raise
            log.info("cache: %s is taken to be as it was: %s", key, error)
            self.cache.metrics.served_stale()
            return Opened(known.facts, believed=True)
        if entry is not None:
            if _is_of(entry, facts) and may_be_stored(facts.cache_control):
                await self.cache.checked(entry, facts)
            else:
                await self.cache.drop(entry)
        return Opened(facts)

    def _may_tell(self, known: Header) -> bool:
        """Whether what is known may be told while the origin cannot be asked."""
        age = time.time() - known.checked
        return age <= self._stale_if_error and may_be_stale(known.facts.cache_control)

    async def _entry(self, facts: ObjectFacts) -> Entry | None:
        """The entry of just this version, if there is or can be one."""
        if not facts.size or not may_be_stored(facts.cache_control):
            return None
        place = self.place(facts.key)
        entry = await self.cache.find(place) or await self.cache.create(place, facts)
        # Another version: somebody knows better than we do, or will have noticed by the next
        # time the origin is asked.
        return entry if entry is not None and _is_of(entry, facts) else None

    def place(self, key: ObjectKey) -> str:
        """Where the cache has an object."""
        return self._places + key

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
