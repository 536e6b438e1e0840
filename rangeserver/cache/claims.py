"""Which blocks of a cache file are here, and locks on missing ones. Blocks; called in threads.

The lock on a block is a lock on the bytes of its record. Processes that have the same file open
exclude each other; a lock goes when its process ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from rangeserver.cache import locks
from rangeserver.cache.blocks import RECORD_BYTES
from rangeserver.cache.cache_file import CacheFile

CHECK_BYTES = 2 << 20
"""As much is checked for one caller at a time: a disk reads it in some milliseconds."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What :func:`claim` found.

    ``good`` blocks are here and match their records. ``run`` are the blocks ``[first, stop)`` that
    are now locked for this process to fetch, if any. ``damaged`` counts blocks that did not match.
    """

    good: list[int]
    run: tuple[int, int] | None = None
    damaged: int = 0


def claim(file: CacheFile, first: int, stop: int, *, fetch: bool, locking: bool = True) -> Claim:
    """Look for the blocks ``[first, stop)``; checks at most :data:`CHECK_BYTES`. Raises
    ``OSError``.

    If ``fetch`` and ``first`` is not here, lock it and the missing blocks that follow, unless other
    processes have locked them; without ``locking``, only find out which they are.
    """
    damaged = 0
    while True:
        good: list[int] = []
        for block, checksum in enumerate(file.checksums(first, stop), first):
            if checksum is None or (good and _is_too_much(file, first, block)):
                break
            if not file.matches(block, checksum):
                damaged += 1
                if fetch:
                    file.erase_record(block)
                break
            good.append(block)
        if good or not fetch:
            return Claim(good, damaged=damaged)
        run = _lock_missing(file, first, stop) if locking else _missing(file, first, stop)
        if run is None:
            return Claim([], damaged=damaged)
        if run[0] < run[1]:
            return Claim([], run, damaged)
        # Another process completed the block between the look and the lock.


def release(file: CacheFile, run: tuple[int, int]) -> None:
    """Unlock blocks; does not block."""
    start = file.layout.record_offset(run[0])
    locks.unlock(file.fileno(), start, (run[1] - run[0]) * RECORD_BYTES)


def is_settled(file: CacheFile, block: int) -> bool:
    """Whether a block has a record, or no other process has it locked. Raises ``OSError``."""
    if file.checksums(block, block + 1)[0] is not None:
        return True
    start = file.layout.record_offset(block)
    return locks.first_locked(file.fileno(), start, RECORD_BYTES) is None


def _is_too_much(file: CacheFile, first: int, block: int) -> bool:
    return (block + 1 - first) * file.layout.block_bytes > CHECK_BYTES


def _lock_missing(file: CacheFile, first: int, stop: int) -> tuple[int, int] | None:
    """Lock ``first`` and the missing blocks after it: ``None`` if another process has it locked, an
    empty run if it is here.
    """
    descriptor, start = file.fileno(), file.layout.record_offset(first)
    while not locks.try_lock(descriptor, start, (stop - first) * RECORD_BYTES):
        taken = locks.first_locked(descriptor, start, (stop - first) * RECORD_BYTES)
        if taken is None:
            continue  # unlocked between the two calls
        stop = first + (taken - start) // RECORD_BYTES
        if stop <= first:
            return None
    run = _missing(file, first, stop)
    if run[1] < stop:
        release(file, (run[1], stop))
    return run


def _missing(file: CacheFile, first: int, stop: int) -> tuple[int, int]:
    """``first`` and the blocks after it that have no record."""
    missing = first
    for checksum in file.checksums(first, stop):
        if checksum is not None:
            break
        missing += 1
    return first, missing
