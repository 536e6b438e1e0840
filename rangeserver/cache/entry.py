"""An object's version in the cache, as one process sees it: what is here, what is on its way."""

from __future__ import annotations

import time

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.fill import Fill
from rangeserver.cache.runs import Runs

_TOUCH_SECONDS = 60.0
"""How often at most it is noted on the disk that an entry is in use."""


_YOUNG_SECONDS = 10.0
"""What is read of a file so young is read by whoever had it made, and by those who came along."""


class Entry:
    """Which blocks of a file this process has checked or written, and which are being filled.

    A block of which nothing is known here may still be in the file: the fill that looks for it
    will find it there.
    """

    def __init__(self, cache_key: str, file: CacheFile, *, new: bool = False) -> None:
        self.cache_key = cache_key
        self.file = file
        self.layout = file.layout
        self.etag = file.header.facts.etag
        self.filling: dict[int, Fill] = {}
        """The fill that each block is waited for from."""
        self._here = Runs()
        self._touched = 0.0
        self._seen = 0.0
        self.reused = False
        """Whether enough of it was read again, as far as this process has seen."""
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
        """How far the bytes from ``position`` on can be read at once, ``stop`` at most."""
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
        """The first of the blocks ``[first, stop)`` that is not known to be here."""
        return self._here.next_missing(first, stop)

    def is_coming(self, first: int, stop: int) -> bool:
        """Whether each of the blocks ``[first, stop)`` is here or on its way."""
        missing = self.next_missing(first, stop)
        while missing is not None and missing in self.filling:
            missing = self.next_missing(missing + 1, stop)
        return missing is None

    def missing_run(self, first: int, stop: int) -> int:
        """The block before ``stop`` at which those end that are neither here nor on their way."""
        stop = self._here.next_present(first, stop)
        return next((block for block in range(first, stop) if block in self.filling), stop)

    def has(self, block: int) -> None:
        """A block is here and good."""
        self._here.add(block, block + 1)

    def doubt(self, first: int, stop: int) -> None:
        """Blocks could not be read: they are to be looked at again."""
        self._here.discard(first, stop)

    def is_current(self, seen_within: float = 0.0) -> bool:
        """Whether the file has its name still; looked at anew if that is longer ago than so many
        seconds.
        """
        now = time.monotonic()
        if now - self._seen < seen_within:
            return True
        self._seen = now if self.file.is_current() else 0.0
        return self._seen > 0.0

    def is_reused_by(self, reread: int) -> bool:
        """Account for bytes read that were here before; whether they are the last of as many as
        make it reused: a block of them, or a whole small object.
        """
        if self.reused or time.monotonic() < self._old_at:
            return False
        self._reread += reread
        self.reused = self._reread >= min(self.layout.block_bytes, self.layout.size)
        return self.reused

    def due_to_be_touched(self) -> bool:
        """Whether it is time to note on the disk that this is in use."""
        now = time.monotonic()
        if self._touched and now - self._touched < _TOUCH_SECONDS:
            return False
        self._touched = now
        return True
