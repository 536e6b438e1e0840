"""How far ahead of a reader to fetch, and in pieces of what size. Arithmetic, nothing else.

A reader that never waits is far enough ahead already: a paced player stays at the first window
for the whole film. One that finds nothing where it reads has its window doubled, once for each
window it has read through, until its own connection is the slowest part.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_FETCH_BYTES = 1 << 20
MAX_FETCH_BYTES = 16 << 20
"""One GET: large enough that its round trip counts for little, small enough to spread the rest."""

PARALLEL = 8
"""GETs of one reader at a time."""


@dataclass(slots=True)
class ReadAhead:
    """The window of one reader: bytes ahead of it that are fetched before it asks."""

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
