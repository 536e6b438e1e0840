"""What goes when the cache is full: whole objects, those first that were not used for longest.

One process at a time sweeps, whichever comes first to the lock. It goes below the limits by a
margin, so that the next sweep is some time off. Blocks, for a thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from rangeserver.cache.directory import Directory

HIGH_WATER = 0.95
LOW_WATER = 0.90
"""Parts of ``max_bytes``: above the one a sweep removes files, until the other."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cache may take of a file system, and what it must leave, in bytes."""

    max_bytes: int
    min_free_bytes: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found and did. ``disk_bytes`` are left, in ``files`` files."""

    disk_bytes: int
    files: int
    removed: int
    removed_bytes: int
    short_of_space: bool
    """Whether the file system has less free than it must, though nothing is left to remove."""


def sweep(directory: Directory, limits: Limits, *, full: bool = False) -> Swept | None:
    """Remove what is too much; ``None`` if another process is at it. Raises ``OSError``.

    ``full``: a write failed for lack of space, whatever the limits say (a quota may be smaller).
    """
    if not directory.try_become_janitor():
        return None
    try:
        directory.remove_abandoned()
        return _sweep(directory, limits, full=full)
    finally:
        directory.be_janitor_no_longer()


def _sweep(directory: Directory, limits: Limits, *, full: bool) -> Swept:
    found = sorted(directory.files(), key=lambda file: file.used)
    total = sum(file.disk_bytes for file in found)
    free = directory.free_bytes()
    excess = _excess(total, free, limits)
    if full:
        excess = max(excess, int(total * (1 - LOW_WATER)))
    removed = removed_bytes = 0
    for file in found:
        if removed_bytes >= excess:
            break
        if directory.remove(file):
            removed += 1
            removed_bytes += file.disk_bytes
    free += removed_bytes
    return Swept(
        total - removed_bytes,
        len(found) - removed,
        removed,
        removed_bytes,
        short_of_space=free < limits.min_free_bytes,
    )


def _excess(total: int, free: int, limits: Limits) -> int:
    """How many bytes have to go."""
    excess = 0
    if total > limits.max_bytes * HIGH_WATER:
        excess = total - int(limits.max_bytes * LOW_WATER)
    if free < limits.min_free_bytes:
        # As much again as is missing, so that not every write brings the next sweep.
        excess = max(excess, 2 * (limits.min_free_bytes - free))
    return excess
