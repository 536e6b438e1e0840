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
from rangeserver.origin.base import Opened, Origin, Part
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

log = logging.getLogger(__name__)

_NO_ANSWER = (OriginBusy, OriginServerError, OriginThrottled, OriginTimeout, OriginUnreachable)
"""The origin could not be asked: what is known may be told, if the configuration allows."""


class CachingOrigin:
    """Objects of one bucket, read through ``cache``."""

    def __init__(self, inner: Origin[bytes], cache: Cache, config: OriginConfig) -> None:
        self.inner = inner
        self.cache = cache
        self._config = config
        self._ttl = cache.config.ttl_seconds
        self._stale_if_error = cache.config.stale_if_error_seconds

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version; while the origin cannot be asked, those of the
        version in the cache.
        """
        return (await self._checked(key, await self.cache.find(self._place(key)))).facts

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

    async def _opened(
        self, stack: AsyncExitStack, key: ObjectKey, wanted: AskedRange
    ) -> Opened[Part]:
        place = self._place(key)
        entry = await self.cache.find(place)
        if entry is None:
            async with self.cache.asking_first(place):
                entry = await self.cache.find(place)
                if entry is None:
                    return await self._first(stack, key, place, wanted)
        if self._ttl:
            await self.cache.reread(entry)
            age = time.time() - entry.file.header.checked
            if 0 <= age < self._ttl:
                return Opened(entry.file.header.facts, believed=True, age=age)
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
        if may_be_stored(opened.facts):
            entry = await self.cache.create(place, opened.facts)
            if entry is not None and entry.etag == opened.facts.etag:
                await self._take_over(entry, opened, opened.parts, inner)
                return Opened(opened.facts)
        span = wanted.span(opened.facts.size)
        span = ByteSpan(max(span.start, opened.span.start), min(span.stop, opened.span.stop))
        parts = _cut(opened.parts, opened.span, span)
        return Opened(opened.facts, span, await stack.enter_async_context(aclosing(parts)))

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
        rest = ByteSpan(opened.span.start, layout.start(stop))
        await fill.adopt(parts, rest, stack.pop_all())

    async def _checked(self, key: ObjectKey, entry: Entry | None) -> Opened[Part]:
        """What the origin says now of an object of which something is in the cache."""
        try:
            facts = await self.inner.describe(key)
        except ObjectNotFound:
            if entry is not None:
                await self.cache.drop(entry.place)
            raise
        except _NO_ANSWER as error:
            known = entry.file.header if entry is not None else None
            if known is None or time.time() - known.checked > self._stale_if_error:
                raise
            log.info("cache: %s is taken to be as it was: %s", key, error)
            self.cache.metrics.served_stale()
            return Opened(known.facts, believed=True)
        if entry is not None:
            if entry.etag == facts.etag and entry.layout.size == facts.size:
                await self.cache.checked(entry, facts)
            else:
                await self.cache.drop(entry.place, unless=facts.etag)
        return Opened(facts)

    async def _entry(self, facts: ObjectFacts) -> Entry | None:
        """The entry of just this version, if there is or can be one."""
        if not facts.size or not may_be_stored(facts):
            return None
        place = self._place(facts.key)
        entry = await self.cache.find(place) or await self.cache.create(place, facts)
        # Another version: somebody knows better than we do, or will have noticed by the next
        # time the origin is asked.
        if entry is None or entry.etag != facts.etag or entry.layout.size != facts.size:
            return None
        return entry

    def _place(self, key: ObjectKey) -> str:
        config = self._config
        return place_of(config.endpoint_url, config.bucket, config.prefix + key)

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


def may_be_stored(facts: ObjectFacts) -> bool:
    """Whether a shared cache may keep an object (RFC 9111 §5.2.2.5, §5.2.2.7)."""
    if facts.cache_control is None:
        return True
    directives = {part.partition("=")[0].strip().lower() for part in facts.cache_control.split(",")}
    return directives.isdisjoint({"no-store", "private"})


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
