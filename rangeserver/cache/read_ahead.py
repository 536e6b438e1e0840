"""How far ahead of a reader to fetch, and in requests of what size. The policy, without I/O.

A reader that never waits has a window that is large enough: a paced player keeps the first window
for the whole film. When a reader has to wait, its window is doubled, once for each window that it
has read through, until its own connection is the slowest part.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_FETCH_BYTES = 1 << 20
MAX_FETCH_BYTES = 16 << 20
"""The size of a GET: large enough that its round trip hardly counts, small enough for several."""

PARALLEL = 8
"""The most GETs of one reader at the same time."""


@dataclass(slots=True)
class ReadAhead:
    """The window of one reader: how many bytes ahead of it are fetched."""

    max_window: int
    window: int = MIN_FETCH_BYTES
    _read_through: int = 0

    @property
    def fetch_bytes(self) -> int:
        """The size of a GET."""
        return min(max(self.window // PARALLEL, MIN_FETCH_BYTES), MAX_FETCH_BYTES)

    def starved(self, position: int) -> None:
        """The reader waits at ``position``."""
        if self._read_through and position < self._read_through:
            return
        if self._read_through:
            self.window = min(self.window * 2, max(self.max_window, MIN_FETCH_BYTES))
        self._read_through = position + self.window // 2
