"""Which files are evicted first. Blocks; called in threads.

A segmented LRU, as in 2Q and S3-FIFO: while files that were not reused occupy more than their
share, the least recently used of them is evicted, otherwise the least recently used of all. So a
scan (a client that reads everything once) cannot evict what is read again and again.

To look at all files of a large cache takes seconds. So one scan counts what they occupy and
remembers the oldest of either kind; evictions take these until none is left.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

from rangeserver.cache.directory import Directory
from rangeserver.cache.listing import FileInfo

ONCE_SHARE = 0.25
"""The share of a full cache for files that were not reused: enough time for them to be read
again.
"""

REMEMBERED = 16_384
"""Files of either kind that are remembered, in about 8 MiB of memory. The next scan is due when
they are gone; even the smallest files of this number occupy half a gibibyte.
"""

_FILES_AT_A_TIME = 128


class EvictionCandidates:
    """The least recently used files of a directory, as of the last scan."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._once: deque[FileInfo] = deque()
        self._reused: deque[FileInfo] = deque()
        self._reused_bytes = 0

    def __len__(self) -> int:
        return len(self._once) + len(self._reused)

    def is_known(self, taken: int) -> bool:
        """Whether the next file to evict is known, for a cache of so many bytes."""
        return bool(self._once or (self._reused and not self._once_exceeds_share(taken)))

    def count(self, pause: Callable[[], object] = bool) -> int:
        """Scan all files; returns the bytes that they occupy. ``pause`` is called after every few
        files. Raises ``OSError``, and what ``pause`` raises.
        """
        total = reused_bytes = 0
        once, reused = _OldestFiles(), _OldestFiles()
        for number, file in enumerate(self._directory.files()):
            if not number % _FILES_AT_A_TIME:
                pause()
            total += file.disk_bytes
            if file.reused:
                reused_bytes += file.disk_bytes
            (reused if file.reused else once).add(file)
        self._once, self._reused, self._reused_bytes = once.oldest(), reused.oldest(), reused_bytes
        return total

    def evict(self, taken: int) -> int | None:
        """Remove the next file of a cache of ``taken`` bytes. Returns the bytes that it occupied,
        or ``None`` if it was used since the scan, or is gone. Raises ``OSError``.
        """
        file = self._next(taken).popleft()
        removed = self._directory.evict(file)
        if removed is not None and file.reused:
            self._reused_bytes -= file.disk_bytes
        return removed

    def _next(self, taken: int) -> deque[FileInfo]:
        if not (self._once and self._reused):
            return self._once or self._reused
        if self._once_exceeds_share(taken) or self._once[0].used <= self._reused[0].used:
            return self._once
        return self._reused

    def _once_exceeds_share(self, taken: int) -> bool:
        # What came since the scan counts as not reused.
        return taken - self._reused_bytes > taken * ONCE_SHARE


class _OldestFiles:
    """Of the files that are added, the oldest ones, as many as are remembered."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, FileInfo]] = []
        self._numbers = count()

    def add(self, file: FileInfo) -> None:
        item = (-file.used, next(self._numbers), file)
        if len(self._heap) < REMEMBERED:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def oldest(self) -> deque[FileInfo]:
        return deque(file for _, _, file in sorted(self._heap, reverse=True))
