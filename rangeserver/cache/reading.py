"""One reader's way through an entry: what is here, what is coming, what is to be fetched next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Self

from rangeserver.cache.cache import Cache
from rangeserver.cache.demand import Demand
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import CacheFailed
from rangeserver.cache.fill import Fill
from rangeserver.cache.read_ahead import PARALLEL, ReadAhead
from rangeserver.cache.residency import is_resident
from rangeserver.cache.transfer import Source, begin_fill
from rangeserver.errors import OriginError
from rangeserver.origin.attempts import Retries
from rangeserver.origin.base import FileSlice, Part, current_client, current_report
from rangeserver.protocol.ranges import ByteSpan

TURN_BYTES = 2 << 20
"""The most that is handed on at once: no client has the event loop for longer than that takes."""

_PATIENCE_BYTES = 1 << 20
"""A fetch whose bytes are so far from those needed is not waited for."""


Uncached = Callable[[ByteSpan], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Reads a span of the same version past the cache."""


class CachedRead:
    """The bytes of a span, in slices of a file: an iterator that must be left in the end.

    Reading past the cache is what it falls back to, from wherever it is, when the disk fails.
    """

    __slots__ = (
        *("_ahead", "_complete", "_demand", "_entry", "_entry_again", "_fetched", "_fills"),
        *("_handed_on", "_opened", "_past", "_position", "_report", "_shared", "_source", "_stop"),
        "_uncached",
    )

    def __init__(
        self,
        shared: Cache,
        entry: Entry,
        span: ByteSpan,
        source: Source,
        retries: Retries,
        *,
        entry_again: Callable[[], Awaitable[Entry | None]],
        uncached: Uncached,
    ) -> None:
        self._shared = shared
        self._entry_again = entry_again
        self._uncached = uncached
        self._entry = entry
        self._source = source
        self._report = current_report()
        self._demand = Demand(retries, self._report)
        self._position = span.start
        self._stop = span.stop
        self._fills: dict[Fill, int] = {}
        """Fills that this reads from, and where their first bytes lie that were waited for."""
        self._ahead = ReadAhead(shared.max_window)
        first, stop = entry.layout.blocks_of(span)
        self._complete = entry.next_missing(first, stop) is None
        self._past: AsyncIterator[bytes] | None = None
        self._opened: AsyncExitStack | None = None
        self._fetched = False
        self._handed_on = 0
        """Bytes that the client has got for certain once it comes for more."""

    async def leave(self) -> None:
        """Give up what is being waited for."""
        metrics = self._shared.metrics
        (metrics.missed if self._fetched else metrics.hit)()
        self._leave_fills()
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
            if not self._complete:
                self._look_ahead()
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
        fetched = 0 if self._complete else self._waited_for(end)
        self._report.cached += length - fetched
        self._report.fetched += fetched
        self._fetched = self._fetched or fetched > 0
        offset = self._entry.layout.data_offset + self._position
        self._position = end
        self._handed_on = length
        self._shared.in_use(self._entry, length - fetched)
        return FileSlice(self._entry.file, offset, length)

    def _waited_for(self, end: int) -> int:
        """How many of the bytes up to ``end`` came from the origin while this was waiting."""
        came = (
            min(fill.filled_to, end) - max(start, self._position)
            for fill, start in self._fills.items()
            if fill.fetching
        )
        # A block whose fill failed comes a second time with another.
        return min(sum(count for count in came if count > 0), end - self._position)

    async def _in_memory(self, end: int) -> bool:
        """Whether the bytes up to ``end`` can be sent without waiting for the disk. If not, they
        are no longer said to be here. Raises :class:`CacheFailed` if they have only just come.
        """
        entry, layout = self._entry, self._entry.layout
        span = ByteSpan(self._position, end)
        try:
            if not is_resident(entry.file.fileno(), layout.data_offset + span.start, span.length):
                await self._shared.disk.run(entry.file.warm, span)
        except OSError as error:
            if entry.file.gone:
                return False
            self._shared.metrics.failed("read")
            first, stop = layout.blocks_of(span)
            entry.doubt(first, stop)
            self._complete = False
            if any(block in entry.filling for block in range(first, stop)):
                # They count as filled until the fill ends: looking again would find no more.
                raise CacheFailed(str(error)) from error
            return False
        return True

    async def _wait(self) -> None:
        """Wait for the next bytes. Raises what became of the requests for them, once the budget
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
        fill = self._attempted(block, fill)
        self._want(fill)
        self._ahead.starved(self._position)
        await self._demand.wait(fill, self._position)
        if self._entry.available(self._position, self._position + 1) > self._position:
            self._demand.met()
        elif fill.over or self._demand.has_failed(fill):
            await self._failed(fill)

    def _attempted(self, block: int, fill: Fill | None) -> Fill:
        """The fill that brings the block which is needed, and that is at it."""
        if fill is None:
            return self._fetch_alone(block)
        behind = self._position - fill.filled_to
        if (
            fill.fetching
            and behind > _PATIENCE_BYTES
            and self._entry.layout.start(block) > fill.filled_to
        ):
            # It would have to wait for all that lies before, and gets a GET of its own instead.
            stop = fill.truncate(block)
            return self._begin(block, stop, ahead=False) or self._fetch_alone(block)
        if fill.broken:
            fill.retry()
        return fill

    async def _failed(self, fill: Fill) -> None:
        """Pause before another attempt, or raise what the last one failed for."""
        if isinstance(fill.error, OriginError):
            await self._demand.failed(fill, fill.error)
        elif fill.error is not None and not self._entry.file.gone:
            raise CacheFailed(str(fill.error))

    def _look_ahead(self) -> None:
        """Have what comes next fetched, as far as the window goes."""
        entry, layout = self._entry, self._entry.layout
        if self._demand.in_trouble or not entry.file.is_current():
            return  # what is written to a removed file, nobody will find again
        fills = self._fills = {
            fill: start
            for fill, start in self._fills.items()
            if not fill.over or fill.filled_to > self._position
        }
        window = ByteSpan(self._position, min(self._stop, self._position + self._ahead.window))
        first, stop = layout.blocks_of(window)
        block = first
        last = layout.blocks_of(ByteSpan(self._position, self._stop))[1]
        length = -(-self._ahead.fetch_bytes // layout.block_bytes)
        while (missing := entry.next_missing(block, stop)) is not None:
            fill: Fill | None = entry.filling.get(missing)
            if fill is None:
                if sum(not each.over for each in fills) >= PARALLEL:
                    return
                run = entry.missing_run(missing, min(missing + length, last))
                fill = self._begin(missing, run, ahead=missing > first)
            if fill is None:
                return
            if fill.broken:
                self._demand.in_trouble = True
                return
            self._want(fill)
            block = fill.stop

    def _begin(self, first: int, stop: int, *, ahead: bool) -> Fill | None:
        needed = self._entry.layout.span(first, stop).length
        if not self._shared.budget.try_take(current_client(), needed):
            return None
        run = (first, stop)
        return begin_fill(
            *(self._shared, self._entry, run, self._source), reserved=needed, ahead=ahead
        )

    def _fetch_alone(self, block: int) -> Fill:
        """Fetch the block that is needed now, alone, when there was no room for more."""
        run = (block, block + 1)
        return begin_fill(self._shared, self._entry, run, self._source, reserved=0)

    def _want(self, fill: Fill) -> None:
        if fill not in self._fills:
            layout = self._entry.layout
            self._fills[fill] = layout.start(fill.filled_to // layout.block_bytes)
            fill.attach(self)

    async def _changes_entry(self) -> bool:
        """Go on with another file, if there is one: this one was removed, to make room or by
        hand.
        """
        entry = await self._entry_again()
        if entry is None:
            return False
        self._leave_fills()
        self._entry = entry
        self._complete = False
        return True

    async def _go_past(self) -> Part:
        """Read the rest from the origin, without the cache."""
        self._fetched = True
        self._leave_fills()
        self._opened = AsyncExitStack()
        rest = ByteSpan(self._position, self._stop)
        self._past = await self._opened.enter_async_context(self._uncached(rest))
        return await self._next_past()

    def _leave_fills(self) -> None:
        for fill in self._fills:
            fill.detach(self)
        self._fills.clear()

    async def _next_past(self) -> Part:
        assert self._past is not None
        part = await anext(self._past)
        self._report.fetched += len(part)
        return part
