"""How much a cache may take of a disk. Arithmetic, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

HIGH_WATER = 0.95
LOW_WATER = 0.90
"""Parts of ``max_bytes``: above the one files are evicted, until the other."""

_FREE_MARGIN = 0.05
"""Space is made for others before they need it: this part of what the cache takes."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """What a disk is used for: the cache takes ``taken`` bytes of it, ``free`` are free."""

    taken: int
    free: int

    def plus(self, count: int) -> DiskSpace:
        """The use once the cache has written so many bytes more."""
        return DiskSpace(self.taken + count, self.free - count)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cache may take of a file system, and what it must leave, in bytes."""

    max_bytes: int
    min_free_bytes: int

    def distance(self, use: DiskSpace) -> int:
        """How many bytes may still be written; negative beyond a limit."""
        return min(self.max_bytes - use.taken, use.free - self.min_free_bytes)

    def is_pressed(self, use: DiskSpace) -> bool:
        """Whether it is time to evict, before anybody has to wait for it."""
        margin = int(use.taken * _FREE_MARGIN / 2)
        return use.taken > self.max_bytes * HIGH_WATER or use.free < self.min_free_bytes + margin

    def excess(self, use: DiskSpace) -> int:
        """How many bytes to evict when it is time: so many that it is not soon time again."""
        margin = int(use.taken * _FREE_MARGIN)
        too_much = use.taken - int(self.max_bytes * LOW_WATER)
        return max(too_much, self.min_free_bytes + margin - use.free, 0)
