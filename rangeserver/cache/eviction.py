"""Which files go first. Blocks, for threads.

What was read once makes room for more that is read once, and not for what is read again and again
(a segmented LRU, as in 2Q and S3-FIFO): while files that were not reused take more than their
share, the oldest of them goes, else the oldest of all. A herd of readers that never come back, or
somebody who asks for everything there is, can have that share and no more.

A large cache takes seconds to look through. So one pass counts what the files take and remembers
the oldest of either kind, and evictions are served from these, until they run out.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

from rangeserver.cache.directory import Directory
from rangeserver.cache.listing import FileInfo

ONCE_SHARE = 0.25
"""Part of a full cache that files may take which were not reused; enough to be read again in it."""

REMEMBERED = 16_384
"""Files of either kind, about 8 MiB of memory in all. The next pass is due when they are gone: of
the smallest files there are, they take half a gibibyte."""

_FILES_AT_A_TIME = 128


class EvictionCandidates:
    """The files of a directory that were not used for longest when they were counted last."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._once: deque[FileInfo] = deque()
        self._reused: deque[FileInfo] = deque()
        self._reused_bytes = 0

    def __len__(self) -> int:
        return len(self._once) + len(self._reused)

    def is_known(self, taken: int) -> bool:
        """Whether the file is known that goes next, from a cache that takes so many bytes."""
        return bool(self._once or (self._reused and not self._is_too_much_once(taken)))

    def count(self, pause: Callable[[], object] = bool) -> int:
        """Look at all files; the bytes that they take. ``pause`` is called after every few of them.
        Raises ``OSError``, and what that raises.
        """
        total = reused_bytes = 0
        once, reused = _Few(), _Few()
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
        """Remove the next of a cache that takes so many bytes; the bytes that it took, ``None`` if
        it was used in the meantime, or is gone. Raises ``OSError``.
        """
        file = self._next(taken).popleft()
        removed = self._directory.evict(file)
        if removed is not None and file.reused:
            self._reused_bytes -= file.disk_bytes
        return removed

    def _next(self, taken: int) -> deque[FileInfo]:
        if not (self._once and self._reused):
            return self._once or self._reused
        if self._is_too_much_once(taken) or self._once[0].used <= self._reused[0].used:
            return self._once
        return self._reused

    def _is_too_much_once(self, taken: int) -> bool:
        # What came since the count was not reused, or is not known to be.
        return taken - self._reused_bytes > taken * ONCE_SHARE


class _Few:
    """As many files as are to be remembered, of those that are added: the oldest."""

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
