"""Reads a span that is cached whole, without ever waiting: for the disk, a fetch or a task."""

from __future__ import annotations

from rangeserver.cache.cache import Cache
from rangeserver.cache.cached_read import TURN_BYTES
from rangeserver.cache.entry import Entry
from rangeserver.cache.residency import is_resident
from rangeserver.origin.base import FileSlice, ReadReport
from rangeserver.protocol.ranges import ByteSpan


class ResidentSpan:
    """Hands out a span in slices, for as long as the next one is in memory.

    ``slice`` is the current one, once :meth:`advance` has found a first.
    """

    __slots__ = ("_cache", "_entry", "_position", "_report", "_stop", "slice")

    def __init__(self, cache: Cache, entry: Entry, span: ByteSpan, report: ReadReport) -> None:
        self._cache = cache
        self._entry = entry
        self._position = span.start
        self._stop = span.stop
        self._report = report
        self.slice: FileSlice

    def advance(self) -> bool:
        """Go on to the next slice. ``False``: it is not in memory, or a block that follows is not
        cached. Not called after the last.
        """
        entry, start, stop = self._entry, self._position, self._stop
        layout = entry.layout
        first, after = start // layout.block_bytes, -(-stop // layout.block_bytes)
        if entry.next_missing(first, after) is not None:
            return False
        stop = min(stop, start + TURN_BYTES)
        offset, length = layout.data_offset + start, stop - start
        try:
            if not is_resident(entry.file.fileno(), offset, length):
                return False
        except OSError:
            return False  # the ordinary read will see what is wrong
        self._position = stop
        self._report.cached += length
        self._cache.in_use(entry, length)
        self.slice = FileSlice(entry.file, offset, length)
        return True

    def was_read(self) -> None:
        """Count the read."""
        self._cache.metrics.hit()
