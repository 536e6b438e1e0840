"""Keeps the directory of a cache in place, writable, and within its limits.

One task looks once a second, and as soon as a write needs room. It evicts before the limits are
reached, gives up removed files that are open if they occupy too much, and tries again to use a
directory that could not be used. After a failed write nothing is written for a while.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from rangeserver.cache.directory import Directory
from rangeserver.cache.disk import Disk
from rangeserver.cache.errors import NoRoom
from rangeserver.cache.limits import Limits
from rangeserver.cache.metrics import CacheMetrics
from rangeserver.cache.space import Space
from rangeserver.cache.usage import FULL
from rangeserver.sparing import sparing

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)
sparing_log = sparing(log.getChild("sparing"))

_LOOK_SECONDS = 1.0
_OPEN_SECONDS = 30.0
"""How often to look whether parts of the directory are missing."""

_COUNT_SECONDS = 5.0
"""How often to look whether a scan is due."""

_RETRY_SECONDS = 10.0
"""How long nothing is written after a write has failed."""

_ROOM_SECONDS = 2.0
_ROOM_PAUSE_SECONDS = 0.1
"""How long a write waits for room, and how often it looks for it."""

_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}


class Maintenance:
    """The state of the directory, and the task that maintains it.

    ``close_unlinked`` is called when files may have been removed: those that are only kept open for
    later readers are to be closed.
    """

    def __init__(
        self,
        disk: Disk,
        directory: Directory,
        limits: Limits,
        metrics: CacheMetrics,
        *,
        close_unlinked: Callable[[], object],
    ) -> None:
        self.space = Space(directory, limits)
        self.opened = False
        self._disk = disk
        self._directory = directory
        self._metrics = metrics
        self._close_unlinked = close_unlinked
        self._exposure_logged = False
        self._left_alone_until = 0.0
        self._open_again = 0.0
        self._full = False
        self._short = False
        self._blind = False
        self._wanted = asyncio.Event()
        self._reclaiming: asyncio.Task[None] | None = None
        metrics.usable = self.may_write
        metrics.disk_bytes = lambda: self.space.taken

    def may_write(self) -> bool:
        """Whether the directory is there and the last write to it did not fail."""
        return self.opened and not self._short and time.monotonic() >= self._left_alone_until

    def write_failed(self, error: OSError) -> None:
        """Write nothing for a while; what is cached is still read."""
        if self.lacks_descriptors(error):
            return
        self._metrics.failed("write")
        if self.may_write():
            reason = error.strerror or error
            log.warning("cache: not written to for %g s: %s", _RETRY_SECONDS, reason)
        self._left_alone_until = time.monotonic() + _RETRY_SECONDS
        if error.errno in FULL:
            self._full = True
            self._wanted.set()
        if error.errno == errno.ENOENT:  # it was removed: make it again
            self.opened = False
            self._open_again = 0.0
            self._wanted.set()

    def lacks_descriptors(self, error: OSError) -> bool:
        """Whether it is due to the limit of open files: the disk is well, the cache is bypassed."""
        if error.errno not in _NO_DESCRIPTORS:
            return False
        self._metrics.failed("descriptors")
        sparing_log.warning("cache: read past, no more files can be opened: %s", error.strerror)
        return True

    async def open(self) -> None:
        """Make the directory ready. Raises ``OSError``."""
        exposure = await self._disk.run_long(self._make_ready)
        if exposure is not None and not self._exposure_logged:
            self._exposure_logged = True
            log.warning("cache: %s: %s", self._directory.path, exposure)
        self.opened = True
        self._open_again = time.monotonic() + _OPEN_SECONDS

    async def write(self, count: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have ``call`` write ``count`` bytes, in a thread, once there is room for them. Raises
        :class:`NoRoom` if there is none, and what ``call`` raises.
        """
        writing = functools.partial(call, *args, **kwargs)
        while True:
            try:
                return await self._disk.run(self._within_limits, count, writing)
            except NoRoom:
                if not await self._room_for(count):
                    raise

    def _within_limits(self, count: int, call: Callable[[], T]) -> T:
        with self.space.writing(count):
            return call()

    async def _room_for(self, count: int) -> bool:
        """Wait until so many bytes can be written; returns whether they can."""
        until = time.monotonic() + _ROOM_SECONDS
        try:
            while self.may_write():
                if await self._disk.run(self.space.has_room, count):
                    return True
                left = until - time.monotonic()
                if left <= 0:
                    raise OSError(0, "there is no room within the limits of the cache")
                ours = self._reclaiming is None
                await asyncio.wait((self._reclaim_once(count),), timeout=left)
                if ours and not await self._disk.run(self.space.has_room, count):
                    # Other processes may have open what was removed, and will close it.
                    await asyncio.sleep(_ROOM_PAUSE_SECONDS)
        except OSError as error:
            self.write_failed(error)
        return False

    async def run(self) -> None:
        """Maintain the directory until cancelled."""
        loop = asyncio.get_running_loop()
        self.space.on_pressure = lambda: loop.call_soon_threadsafe(self._wanted.set)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_within_limits())
                group.create_task(self._keep_counted())
        finally:
            self.space.on_pressure = bool

    async def stop(self) -> None:
        """Stop what is running."""
        self.space.stop()
        if self._reclaiming is not None:
            self._reclaiming.cancel()
            await asyncio.wait((self._reclaiming,))

    async def _keep_within_limits(self) -> None:
        while True:
            if time.monotonic() > self._open_again:
                await self._try_to_open()
            if self.opened:
                await asyncio.wait((self._reclaim_once(),))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wanted.wait()
            self._wanted.clear()

    async def _keep_counted(self) -> None:
        while True:
            if self.opened:
                try:
                    await self._disk.run_long(self.space.count_if_due)
                except OSError as error:
                    self._scan_failed(error)
            await asyncio.sleep(_COUNT_SECONDS)

    def _reclaim_once(self, count: int = 0) -> asyncio.Task[None]:
        """Make room, in one thread at a time."""
        if self._reclaiming is None:
            self._reclaiming = asyncio.get_running_loop().create_task(self._reclaim(count))
        return self._reclaiming

    async def _reclaim(self, count: int) -> None:
        """Evict what is too much, and close removed files."""
        full, self._full = self._full, False
        try:
            done = await self._disk.run_long(self.space.reclaim, count, full=full)
            if done.files:
                self._metrics.evicted(done.files)
                log.info("cache: removed %d objects, %d bytes", done.files, done.disk_bytes)
            if done.given_up:
                log.info("cache: gave up %d removed files that were open", done.given_up)
            if done.held or done.given_up:
                self._close_unlinked()
        except OSError as error:
            self._scan_failed(error)
        else:
            self._blind = False
            self._set_short(short=done.short)
        finally:
            self._reclaiming = None

    def _set_short(self, *, short: bool) -> None:
        if short and not self._short:
            self._metrics.failed("write")
            log.warning("cache: not written to while less is free than cache.min_free_bytes")
        elif self._short and not short:
            log.info("cache: there is room on the disk again")
        self._short = short

    def _scan_failed(self, error: OSError) -> None:
        if not self._blind:  # otherwise it was logged
            self._metrics.failed("read")
            log.warning("cache: cannot look for space: %s", error)
        self._blind = True

    async def _try_to_open(self) -> None:
        """Make the directory ready, and the parts of it that were removed."""
        usable = self.opened
        try:
            await self.open()
        except OSError as error:
            self._open_again = time.monotonic() + _RETRY_SECONDS
            if self.lacks_descriptors(error):
                return
            self.opened = False
            self._metrics.failed("write")
            log.warning("cache: %s cannot be used: %s", self._directory.path, error)
        else:
            if not usable:
                log.info("cache: %s can be used now", self._directory.path)

    def _make_ready(self) -> str | None:
        self._directory.open()
        self._directory.remove_abandoned()
        return self._directory.exposure()
