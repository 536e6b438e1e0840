"""Resident memory, measured so that a leak shows and the allocator's moods do not."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

ALLOWED_GROWTH = 1.10
AT_ONCE = 24
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None)


def resident_bytes(pid: int | None = None) -> int:
    """Resident bytes of a process; of this one after giving back what is free."""
    if pid is None:
        gc.collect()
        _LIBC.malloc_trim(0)
    return int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1]) * _PAGE


async def repeated(once: Callable[[], Awaitable[object]], times: int) -> None:
    """Do it ``times`` times, a few at once; the first failure ends it."""
    left = iter(range(times))

    async def worker() -> None:
        for _ in left:
            await once()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


async def memory_stays(once: Callable[[], Awaitable[object]], times: int) -> None:
    """After ``times`` repetitions memory has grown by a tenth at most.

    A leak grows every time, a pool or a cache that fills does so once: growth counts only
    when the next round grows as well.
    """
    await repeated(once, times // 5)
    before = resident_bytes()
    for last in (False, True):
        await repeated(once, times)
        after = resident_bytes()
        if after <= before * ALLOWED_GROWTH:
            return
        assert not last, f"resident memory grew from {before} to {after} in {times} repetitions"
        before = after
