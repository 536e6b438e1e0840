"""One read of an entry: slices of its file as the bytes arrive, or reading past the cache."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Self

from rangeserver.cache.cache import Cache
from rangeserver.cache.demand import Demand
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import CacheFailed
from rangeserver.cache.fill import Fill
from rangeserver.cache.prefetch import Prefetcher
from rangeserver.cache.residency import is_resident
from rangeserver.cache.transfer import Source
from rangeserver.errors import OriginError
from rangeserver.origin.attempts import Retries
from rangeserver.origin.base import FileSlice, Part, current_report
from rangeserver.protocol.ranges import ByteSpan

TURN_BYTES = 2 << 20
"""The largest slice: no client occupies the event loop for longer than sending that takes."""


Uncached = Callable[[ByteSpan], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Reads a span of the same version past the cache."""


class CachedRead:
    """The bytes of a span, in slices of a file: an iterator, with :meth:`leave` to call at its end.

    When the disk fails, it continues past the cache from where it is.
    """

    __slots__ = (
        *("_cache", "_complete", "_demand", "_entry", "_entry_again", "_fetched", "_handed_on"),
        *("_opened", "_past", "_position", "_prefetcher", "_report", "_stop", "_uncached"),
    )

    def __init__(
        self,
        cache: Cache,
        entry: Entry,
        span: ByteSpan,
        source: Source,
        retries: Retries,
        *,
        entry_again: Callable[[], Awaitable[Entry | None]],
        uncached: Uncached,
    ) -> None:
        self._cache = cache
        self._entry_again = entry_again
        self._uncached = uncached
        self._entry = entry
        self._prefetcher = Prefetcher(cache, entry, source, span.stop)
        self._report = current_report()
        self._demand = Demand(retries, self._report)
        self._position = span.start
        self._stop = span.stop
        first, stop = entry.layout.blocks_of(span)
        self._complete = entry.next_missing(first, stop) is None
        self._past: AsyncIterator[bytes] | None = None
        self._opened: AsyncExitStack | None = None
        self._fetched = False
        self._handed_on = 0
        """Bytes of the last slice: the client has them when it asks for the next one."""

    async def leave(self) -> None:
        """Give up what is being waited for."""
        metrics = self._cache.metrics
        (metrics.missed if self._fetched else metrics.hit)()
        self._prefetcher.leave()
        if self._opened is not None:
            await self._opened.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Part:
        if self._past is not None:
            return await self._next_past()
        if self._handed_on:
            self._report.delivered(self._handed_on)
            self._handed_on = 0
        return await self._next()

    async def _next(self) -> Part:
        if self._position >= self._stop:
            raise StopAsyncIteration
        while True:
            entry = self._entry
            if entry.file.gone:
                if not await self._changes_entry():
                    break
                continue
            at_most = min(self._stop, self._position + TURN_BYTES)
            end = entry.available(self._position, at_most)
            if not (self._complete or self._demand.in_trouble):
                self._demand.in_trouble = not self._prefetcher.prefetch(self._position)
            try:
                if end == self._position:
                    await self._wait()
                elif await self._in_memory(end):
                    return self._slice(end)
            except CacheFailed:
                break
        return await self._go_past()

    def _slice(self, end: int) -> FileSlice:
        length = end - self._position
        fetched = 0 if self._complete else self._prefetcher.waited_for(self._position, end)
        self._report.cached += length - fetched
        self._report.fetched += fetched
        self._fetched = self._fetched or fetched > 0
        offset = self._entry.layout.data_offset + self._position
        self._position = end
        self._handed_on = length
        self._cache.in_use(self._entry, length - fetched)
        return FileSlice(self._entry.file, offset, length)

    async def _in_memory(self, end: int) -> bool:
        """Whether the bytes up to ``end`` can be sent without waiting for the disk, once that has
        read them. ``False``: it cannot, and their blocks count as missing from now on. Raises
        :class:`CacheFailed` if they have only just been written.
        """
        entry, layout = self._entry, self._entry.layout
        span = ByteSpan(self._position, end)
        try:
            if not is_resident(entry.file.fileno(), layout.data_offset + span.start, span.length):
                await self._cache.disk.run(entry.file.warm, span)
        except OSError as error:
            if entry.file.gone:
                return False
            self._cache.metrics.failed("read")
            first, stop = layout.blocks_of(span)
            entry.doubt(first, stop)
            self._complete = False
            if any(block in entry.filling for block in range(first, stop)):
                # They count as filled until the fill ends: another look would find them again.
                raise CacheFailed(str(error)) from error
            return False
        return True

    async def _wait(self) -> None:
        """Wait for the next bytes. Raises the error of the last attempt at them, once the budget
        of the response is spent.
        """
        block = self._position // self._entry.layout.block_bytes
        fill = self._entry.filling.get(block)
        if fill is None and not self._entry.file.is_current():
            if not await self._changes_entry():
                msg = "the file was removed, and there is no other"
                raise CacheFailed(msg)
            return
        if fill is not None and fill.broken and self._demand.has_failed(fill):
            await self._failed(fill)
            return
        if (fill is None or fill.broken) and not await self._demand.is_paid():
            return
        fill = self._prefetcher.fill_at(self._position)
        await self._demand.wait(fill, self._position)
        if self._entry.available(self._position, self._position + 1) > self._position:
            self._demand.met()
        elif fill.over or self._demand.has_failed(fill):
            await self._failed(fill)

    async def _failed(self, fill: Fill) -> None:
        """Pause before another attempt, or raise what the last one failed for."""
        if isinstance(fill.error, OriginError):
            await self._demand.failed(fill, fill.error)
        elif fill.error is not None and not self._entry.file.gone:
            raise CacheFailed(str(fill.error))

    async def _changes_entry(self) -> bool:
        """Continue with another file, if there is one: this one was removed, to make room or by
        hand.
        """
        entry = await self._entry_again()
        if entry is None:
            return False
        self._prefetcher.change(entry)
        self._entry = entry
        self._complete = False
        return True

    async def _go_past(self) -> Part:
        """Read the rest from the origin, without the cache."""
        self._fetched = True
        self._prefetcher.leave()
        self._opened = AsyncExitStack()
        rest = ByteSpan(self._position, self._stop)
        self._past = await self._opened.enter_async_context(self._uncached(rest))
        return await self._next_past()

    async def _next_past(self) -> Part:
        assert self._past is not None
        part = await anext(self._past)
        self._report.fetched += len(part)
        return part
