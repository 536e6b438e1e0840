"""The lock on an object that is not in the cache, so that one process asks the origin for it.

The others wait until it has made a file, or until the lock is free because it gave up or died. A
process that takes too long, because it hangs or its origin is slow, is not waited for: the object
is then asked for without the lock.
"""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rangeserver.cache.cache import Cache

_OTHERS_SECONDS = 5.0
"""How long another process is waited for. One that hangs keeps its lock, and there must be time
left to ask the origin before a client's deadline for the first byte.
"""


@asynccontextmanager
async def object_lock(cache: Cache, cache_key: str) -> AsyncIterator[None]:
    """Hold the lock, or have waited for the process that held it."""
    directory = cache.directory
    locked = False
    until = time.monotonic() + _OTHERS_SECONDS
    try:
        while cache.may_keep(cache_key) and not (locked := directory.try_lock_object(cache_key)):
            free = functools.partial(directory.is_object_unlocked, cache_key)
            if not await cache.poller.until(free, within=until - time.monotonic()):
                break
    except OSError as error:
        cache.write_failed(error)
    try:
        yield
    finally:
        if locked:
            directory.unlock_object(cache_key)
