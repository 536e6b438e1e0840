"""A version of an object in the cache, as one process sees it: which blocks are here or coming."""

from __future__ import annotations

import time

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.fill import Fill
from rangeserver.cache.runs import Runs

_TOUCH_SECONDS = 60.0
"""How often the use of an entry is noted on the disk, at most."""


_YOUNG_SECONDS = 10.0
"""Reads of a file this young are not a reuse: they come from the readers that caused it, and from
those that came at the same time.
"""


class Entry:
    """Which blocks of a file this process has checked or written, and which fills are running.

    A block that is not known here may still be in the file: the transfer that looks for it finds
    it.
    """

    def __init__(self, cache_key: str, file: CacheFile, *, new: bool = False) -> None:
        self.cache_key = cache_key
        self.file = file
        self.layout = file.layout
        self.etag = file.header.facts.etag
        self.filling: dict[int, Fill] = {}
        """The fill that brings each block."""
        self._here = Runs()
        self._touched = 0.0
        self._seen = 0.0
        self.reused = False
        """Whether this process has seen enough of it read again."""
        self._old_at = time.monotonic() + _YOUNG_SECONDS if new else 0.0
        self._reread = 0

    def add_fill(self, fill: Fill) -> None:
        """Blocks are waited for from this fill."""
        for block in range(fill.first, fill.stop):
            self.filling[block] = fill

    def remove_fill(self, fill: Fill, first: int) -> None:
        """Blocks from ``first`` on are not waited for from this fill any more."""
        for block in range(first, fill.stop):
            if self.filling.get(block) is fill:
                del self.filling[block]

    def available(self, position: int, stop: int) -> int:
        """Up to where the bytes from ``position`` on can be read now; at most ``stop``."""
        layout = self.layout
        block = position // layout.block_bytes
        missing = self.next_missing(block, -(-stop // layout.block_bytes))
        if missing is None:
            return stop
        end = position if missing == block else layout.start(missing)
        fill = self.filling.get(missing)
        if fill is not None and fill.filled_to > end:
            end = fill.filled_to
        return min(end, stop)

    def next_missing(self, first: int, stop: int) -> int | None:
        """The first of the blocks ``[first, stop)`` that is not known to be here, if any."""
        return self._here.next_missing(first, stop)

    def is_coming(self, first: int, stop: int) -> bool:
        """Whether each of the blocks ``[first, stop)`` is here or on its way."""
        missing = self.next_missing(first, stop)
        while missing is not None and missing in self.filling:
            missing = self.next_missing(missing + 1, stop)
        return missing is None

    def missing_run(self, first: int, stop: int) -> int:
        """Where the run of blocks from ``first`` on ends that are neither here nor on their way."""
        stop = self._here.next_present(first, stop)
        return next((block for block in range(first, stop) if block in self.filling), stop)

    def has(self, block: int) -> None:
        """A block is here and was checked or written by this process."""
        self._here.add(block, block + 1)

    def doubt(self, first: int, stop: int) -> None:
        """Blocks could not be read: look for them again."""
        self._here.discard(first, stop)

    def is_current(self, seen_within: float = 0.0) -> bool:
        """Whether the file still has its name and length, as seen at most so many seconds ago."""
        now = time.monotonic()
        if now - self._seen < seen_within:
            return True
        self._seen = now if self.file.is_current() else 0.0
        return self._seen > 0.0

    def is_reused_by(self, reread: int) -> bool:
        """Count bytes read that were here before. Returns whether the entry counts as reused from
        now on: after a block of them, or a whole small object.
        """
        if self.reused or time.monotonic() < self._old_at:
            return False
        self._reread += reread
        self.reused = self._reread >= min(self.layout.block_bytes, self.layout.size)
        return self.reused

    def due_to_be_touched(self) -> bool:
        """Whether it is time to note the use of this entry on the disk."""
        now = time.monotonic()
        if self._touched and now - self._touched < _TOUCH_SECONDS:
            return False
        self._touched = now
        return True
