"""Keeps writes within the limits of a cache, and makes room. Blocks; called in threads.

Before each write, its bytes and those that other threads are writing are compared with the limits:
what the cache may occupy, of all processes together, and what must stay free on the file system.
The figures are read again every 10 ms, and before each write if a limit is near. A limit can be
exceeded only by what other processes write between this look and the write that follows: one write
of at most 0.5 MiB for each of their disk threads.
"""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rangeserver.cache.directory import Directory
from rangeserver.cache.errors import NoRoom
from rangeserver.cache.eviction import EvictionCandidates
from rangeserver.cache.limits import LOW_WATER, DiskSpace, Limits

NEW_FILE_BYTES = 16 * 1024
"""What an empty file occupies, its name included."""

_LOOK_SECONDS = 0.01
_NEAR_BYTES = 64 << 20

_COUNT_SECONDS = 30.0
_COUNT_FACTOR = 100
"""A scan is due after this time, and not before this many times the duration of the last one."""

_PAUSE_SECONDS = 0.001

_EVICTION_FACTOR = 4
"""The same factor if evictions wait for the scan, which makes no pauses then."""


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What was done to make room: how many files were removed, and what they occupied; how many
    removed files that are open here are counted as ours (``held``), or were given up. ``short``:
    too little is free, and nothing is left to remove.
    """

    files: int
    disk_bytes: int
    held: int
    given_up: int
    short: bool


class Space:
    """The disk of one cache, as one process sees it. ``on_pressure`` is called in a thread when it
    is time to make room.
    """

    def __init__(self, directory: Directory, limits: Limits) -> None:
        self.limits = limits
        self.on_pressure: Callable[[], object] = bool
        self._directory = directory
        self._lock = threading.Lock()
        self._use: DiskSpace | None = None
        self._taken: int | None = None
        self._looked = 0.0
        self._writing = 0
        self._oldest = EvictionCandidates(directory)
        self._counting = threading.Lock()
        self._counted = -math.inf
        self._count_seconds = 0.0
        self._hurry = False
        self._stopped = False

    @property
    def taken(self) -> int | None:
        """What the cache occupies, of all processes together; ``None`` if not known yet."""
        return self._taken

    @contextmanager
    def writing(self, count: int) -> Iterator[None]:
        """Enter to write so many bytes. Raises :class:`NoRoom`, and ``OSError`` if the use of the
        disk cannot be read.
        """
        with self._lock:
            use = self._now(count)
            if self.limits.distance(use.plus(self._writing + count)) < 0:
                raise NoRoom
            self._writing += count
        pressed = self.limits.is_pressed(use)
        try:
            yield
            with self._lock:
                self._grow(count)
        finally:
            with self._lock:
                self._writing -= count
        if pressed:
            self.on_pressure()

    def has_room(self, count: int) -> bool:
        """Whether so many bytes could be written now."""
        with self._lock:
            use = self._look()
            return self.limits.distance(use.plus(self._writing + count)) >= 0

    def look(self) -> DiskSpace:
        """The space of the disk now. Raises ``OSError``."""
        with self._lock:
            return self._look()

    def count_if_due(self) -> None:
        """Scan all files if it is due; only one process does. Raises ``OSError``."""
        with self._counting:
            taken = self._directory.usage.read()
            interval = max(_COUNT_SECONDS, self._count_seconds * _COUNT_FACTOR)
            if taken is not None and 0 <= time.time() - taken.counted < interval:
                return
            if self._directory.usage.try_lock_scan():
                try:
                    self._count()
                finally:
                    self._directory.usage.unlock_scan()

    def reclaim(self, count: int = 0, *, full: bool = False) -> Reclaimed:
        """Evict files if a limit is near, or if there is no room for ``count`` bytes. Raises
        ``OSError``.

        ``full``: a write failed because the disk is full, whatever the limits say (a quota).
        """
        _, given_up = self._settle_held(count, full=full)
        use = self.look()
        excess = self.limits.excess(use.plus(count)) if self._is_too_much(use, count) else 0
        if full:
            excess = max(excess, int(use.taken * (1 - LOW_WATER)))
        files = disk_bytes = 0
        # Other processes may evict too, and what they have open frees no space yet.
        while disk_bytes < excess and (full or self.limits.excess(self.look().plus(count)) > 0):
            taken = self.look().taken
            if self._stopped or not (self._oldest.is_known(taken) or self._recount()):
                break
            removed = self._oldest.evict(taken)
            if removed is not None:
                files += 1
                disk_bytes += removed
        held, more = self._settle_held(count, full=full)
        self._directory.usage.forget_the_dead()
        short = self.look().free < self.limits.min_free_bytes and not len(self._oldest)
        return Reclaimed(files, disk_bytes, held, given_up + more, short)

    def stop(self) -> None:
        """Make running calls end soon."""
        self._stopped = True

    def _settle_held(self, count: int, *, full: bool) -> tuple[int, int]:
        """Count the removed files that are open here; or give all of them up if they occupy too
        much, with ``count`` bytes to come. Returns how many were counted, and given up.
        """
        files = [file for file in self._directory.open_files() if file.unlinked]
        usage = self._directory.usage
        held = sum(file.unlinked_bytes() for file in files)
        use = self.look().plus(held - usage.held)
        if files and (full or self._is_too_much(use, count)):
            for file in files:
                file.give_up()
            usage.hold(0)
            return 0, len(files)
        usage.hold(held)
        return len(files), 0

    def _is_too_much(self, use: DiskSpace, count: int) -> bool:
        return self.limits.is_pressed(use) or self.limits.distance(use.plus(count)) < 0

    def _recount(self) -> bool:
        """Scan all files, unless that was done just now; returns whether there are any to evict."""
        self._hurry = True  # also for a scan that is running: an eviction waits for it now
        with self._counting:
            if time.monotonic() - self._counted > self._count_seconds * _EVICTION_FACTOR:
                self._count()
            self._hurry = False
            return len(self._oldest) > 0

    def _count(self) -> None:
        began = time.monotonic()
        self._directory.usage.recount(lambda: self._oldest.count(self._pause))
        self._counted = time.monotonic()
        self._count_seconds = self._counted - began
        self.look()

    def _pause(self) -> None:
        """Let the event loop run, with which this thread shares the interpreter."""
        if self._stopped:
            raise OSError(errno.ECANCELED, "the cache is closed")
        if not self._hurry:
            time.sleep(_PAUSE_SECONDS)

    def _now(self, count: int) -> DiskSpace:
        """The space of the disk, as exactly as a write needs it."""
        use = self._use
        if (
            use is None
            or time.monotonic() - self._looked > _LOOK_SECONDS
            or self.limits.distance(use.plus(self._writing + count)) < _NEAR_BYTES
        ):
            use = self._look()
        return use

    def _look(self) -> DiskSpace:
        taken = self._directory.usage.read()
        self._taken = taken.total if taken is not None else None
        self._use = DiskSpace(self._taken or 0, self._directory.free_bytes())
        self._looked = time.monotonic()
        return self._use

    def _grow(self, count: int) -> None:
        self._directory.usage.add(count)
        if self._use is not None:
            self._use = self._use.plus(count)
