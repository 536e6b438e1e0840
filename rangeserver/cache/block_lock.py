"""The lock that a transfer holds on the blocks it fetches, so that only one process fetches them.

Before the origin is asked, the file is looked into: another process may have written the blocks.
The blocks that will be fetched are locked. If another process has locked them, it is waited for
until they are there, or until the lock is free because that process gave up or died. A process that
takes too long, because it hangs or its origin is slow, is not waited for: the blocks are fetched
without the lock. The bytes of a version are the same whichever process writes them, so two writers
do no harm, and all readers of this process still share one fetch.
"""

from __future__ import annotations

import functools
import logging
import time

from rangeserver.cache.cache import Cache
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.claims import Claim, claim, is_settled, release
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import CacheFailed
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

_OTHERS_SECONDS = 5.0
"""How long another process is waited for. One that hangs keeps its locks, and there must be time
left to ask the origin before a client's deadline for the first byte.
"""


class BlockLock:
    """One transfer's lock on blocks of an entry."""

    def __init__(self, cache: Cache, entry: Entry) -> None:
        self._cache = cache
        self._entry = entry
        self._run: tuple[int, int] | None = None

    async def take(self, first: int, stop: int) -> tuple[int, int] | None:
        """Lock ``first`` and the missing blocks after it. Returns which blocks these are, or
        ``None`` if ``first`` is here. Raises :class:`CacheFailed`.
        """
        cache, entry = self._cache, self._entry
        until = time.monotonic() + _OTHERS_SECONDS
        locking = True
        while True:
            fetch = cache.may_write() and entry.file.writable
            found = await self._claim(first, stop, fetch=fetch, locking=locking)
            if entry.file.gone:
                msg = "the file was given up"
                raise CacheFailed(msg)
            cache.found(entry, found)
            if found.good:
                return None
            if found.run is not None:
                self._run = found.run
                return found.run
            if not fetch:
                msg = "the cache is not written to at the moment"
                raise CacheFailed(msg)
            settled = functools.partial(is_settled, entry.file, first)
            locking = await cache.poller.until(settled, within=until - time.monotonic())
            if not locking:
                log.warning("cache: another process takes too long over %s", entry.cache_key)

    async def try_take(self, first: int, stop: int) -> tuple[int, int] | None:
        """The same without waiting for other processes."""
        found = await self._claim(first, stop, fetch=True)
        self._run = found.run
        return found.run

    def truncate(self, block: int) -> None:
        """Unlock the blocks from ``block`` on."""
        assert self._run is not None
        first, stop = self._run
        release(self._entry.file, (block, stop))
        self._run = (first, block)

    def release(self) -> None:
        """Unlock all."""
        if self._run is not None:
            release(self._entry.file, self._run)
            self._run = None

    async def _claim(self, first: int, stop: int, *, fetch: bool, locking: bool = True) -> Claim:
        file = self._entry.file
        return await self._cache.disk.run_or(
            lambda found: _release(file, found),
            claim,
            file,
            first,
            stop,
            fetch=fetch,
            locking=locking,
        )


def _release(file: CacheFile, found: Claim) -> None:
    """Unlock what was locked for a fill that is over meanwhile."""
    if found.run is not None:
        release(file, found.run)
