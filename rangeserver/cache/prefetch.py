"""The fetches of one reader: of what it waits for, and of what comes next.

:mod:`rangeserver.cache.read_ahead` decides how far ahead to fetch, and a transfer belongs to the
server (:mod:`rangeserver.cache.transfer`). This begins fills, joins those of other readers, and
leaves them.
"""

from __future__ import annotations

from rangeserver.cache.cache import Cache
from rangeserver.cache.entry import Entry
from rangeserver.cache.fill import Fill
from rangeserver.cache.read_ahead import PARALLEL, ReadAhead
from rangeserver.cache.transfer import Source, begin_fill
from rangeserver.origin.base import current_client
from rangeserver.protocol.ranges import ByteSpan

_PATIENCE_BYTES = 1 << 20
"""A fill that is so far before the bytes needed is not waited for."""


class Prefetcher:
    """Fetches blocks of ``entry`` from ``source`` for a reader that reads up to ``stop``."""

    __slots__ = ("_ahead", "_cache", "_entry", "_fills", "_source", "_stop")

    def __init__(self, cache: Cache, entry: Entry, source: Source, stop: int) -> None:
        self._cache = cache
        self._entry = entry
        self._source = source
        self._stop = stop
        self._ahead = ReadAhead(cache.max_window)
        self._fills: dict[Fill, int] = {}
        """The fills that are read from, and the first position in each that was waited for."""

    def prefetch(self, position: int) -> bool:
        """Fetch what comes next after ``position``, as far as the window goes. ``False``: a fill on
        the way is broken, so nothing more should be prefetched for now.
        """
        entry, layout = self._entry, self._entry.layout
        if not entry.file.is_current():
            return True  # nobody will find again what is written to a removed file
        fills = self._fills = {
            fill: start
            for fill, start in self._fills.items()
            if not fill.over or fill.filled_to > position
        }
        window = ByteSpan(position, min(self._stop, position + self._ahead.window))
        first, stop = layout.blocks_of(window)
        block = first
        last = layout.blocks_of(ByteSpan(position, self._stop))[1]
        length = -(-self._ahead.fetch_bytes // layout.block_bytes)
        while (missing := entry.next_missing(block, stop)) is not None:
            fill: Fill | None = entry.filling.get(missing)
            if fill is None:
                if sum(not each.over for each in fills) >= PARALLEL:
                    return True
                run = entry.missing_run(missing, min(missing + length, last))
                fill = self._begin(missing, run, ahead=missing > first)
            if fill is None:
                return True
            if fill.broken:
                return False
            self._join(fill)
            block = fill.stop
        return True

    def fill_at(self, position: int) -> Fill:
        """The fill that brings the byte at ``position``, for which the reader waits now. It is
        begun if there is none, and tried again if it is broken.
        """
        block = position // self._entry.layout.block_bytes
        fill = self._attempted(block, position)
        self._join(fill)
        self._ahead.starved(position)
        return fill

    def waited_for(self, start: int, stop: int) -> int:
        """How many of these bytes came from the origin while the reader was waiting."""
        came = (
            min(fill.filled_to, stop) - max(begin, start)
            for fill, begin in self._fills.items()
            if fill.fetching
        )
        # A block whose fill failed comes a second time with another.
        return min(sum(count for count in came if count > 0), stop - start)

    def change(self, entry: Entry) -> None:
        """Continue with another entry of the same version."""
        self.leave()
        self._entry = entry

    def leave(self) -> None:
        """Leave all fills."""
        for fill in self._fills:
            fill.detach(self)
        self._fills.clear()

    def _attempted(self, block: int, position: int) -> Fill:
        fill = self._entry.filling.get(block)
        if fill is None:
            return self._fetch_alone(block)
        behind = position - fill.filled_to
        if (
            fill.fetching
            and behind > _PATIENCE_BYTES
            and self._entry.layout.start(block) > fill.filled_to
        ):
            # The reader would wait for all bytes before; it gets a request of its own instead.
            stop = fill.truncate(block)
            return self._begin(block, stop, ahead=False) or self._fetch_alone(block)
        if fill.broken:
            fill.retry()
        return fill

    def _begin(self, first: int, stop: int, *, ahead: bool) -> Fill | None:
        needed = self._entry.layout.span(first, stop).length
        if not self._cache.budget.try_take(current_client(), needed):
            return None
        run = (first, stop)
        return begin_fill(
            *(self._cache, self._entry, run, self._source), reserved=needed, ahead=ahead
        )

    def _fetch_alone(self, block: int) -> Fill:
        """Fetch the block that is needed now, alone, when the budget had no room for more."""
        run = (block, block + 1)
        return begin_fill(self._cache, self._entry, run, self._source, reserved=0)

    def _join(self, fill: Fill) -> None:
        if fill not in self._fills:
            layout = self._entry.layout
            self._fills[fill] = layout.start(fill.filled_to // layout.block_bytes)
            fill.attach(self)
