"""Which files go first: those that were not used for longest. Blocks, for threads.

A large cache takes seconds to look through. So one pass counts what the files take and remembers
the oldest of them, and evictions are served from these, until they run out.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from rangeserver.cache.directory import Directory, Found

REMEMBERED = 32_768
"""Files, about 8 MiB of memory. The next pass is due when they are gone: of the smallest files
there are, they take half a gibibyte."""


_FILES_AT_A_TIME = 128


class Oldest:
    """The files of a directory that were not used for longest when they were counted last."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._files: deque[Found] = deque()

    def __len__(self) -> int:
        return len(self._files)

    def count(self, pause: Callable[[], object] = bool) -> int:
        """Look at all files; the bytes that they take. ``pause`` is called after every few of them.
        Raises ``OSError``, and what that raises.
        """
        total = 0

        def counted(files: Iterable[Found]) -> Iterator[Found]:
            nonlocal total
            for number, file in enumerate(files):
                if not number % _FILES_AT_A_TIME:
                    pause()
                total += file.disk_bytes
                yield file

        files = counted(self._directory.files())
        self._files = deque(heapq.nsmallest(REMEMBERED, files, key=lambda file: file.used))
        return total

    def evict(self) -> int | None:
        """Remove the oldest; the bytes that it took, ``None`` if it was used in the meantime, or
        is gone. Raises ``OSError``.
        """
        return self._directory.evict(self._files.popleft())
