"""How much of a disk a cache may occupy. Arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass

HIGH_WATER = 0.95
LOW_WATER = 0.90
"""Shares of ``max_bytes``: evictions begin above the one and stop at the other."""

_FREE_MARGIN = 0.05
"""Free space is made before others need it: this share of what the cache occupies."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The cache occupies ``taken`` bytes of the disk, and ``free`` bytes are free."""

    taken: int
    free: int

    def plus(self, count: int) -> DiskSpace:
        """The space after the cache has written so many bytes more."""
        return DiskSpace(self.taken + count, self.free - count)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cache may occupy, and what must stay free on the file system, in bytes."""

    max_bytes: int
    min_free_bytes: int

    def distance(self, use: DiskSpace) -> int:
        """How many bytes may still be written; negative beyond a limit."""
        return min(self.max_bytes - use.taken, use.free - self.min_free_bytes)

    def is_pressed(self, use: DiskSpace) -> bool:
        """Whether to evict now, before a write has to wait for it."""
        margin = int(use.taken * _FREE_MARGIN / 2)
        return use.taken > self.max_bytes * HIGH_WATER or use.free < self.min_free_bytes + margin

    def excess(self, use: DiskSpace) -> int:
        """How many bytes to evict now: enough that it is not soon due again."""
        margin = int(use.taken * _FREE_MARGIN)
        too_much = use.taken - int(self.max_bytes * LOW_WATER)
        return max(too_much, self.min_free_bytes + margin - use.free, 0)
