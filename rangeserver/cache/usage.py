"""What a cache occupies on the disk, counted by all its processes together. Blocks; for threads.

Each process has a slot in a shared file, which it alone writes: by how much it has made the files
with a name grow, and what it holds of removed files. The total is the sum of all slots and of what
was there before. No process waits for another, and what a killed process has written stays counted.
The total is an estimate: now and then one process scans the files and corrects it.

    offset 0  whatever else is in the file
    BEGIN     mark, base, time of the last count
    ...       a slot for each process, which locks it: grown, held
    END       whatever else is in the file
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rangeserver.cache import locks

BEGIN = 4096
SLOTS = 128
"""Processes of one cache at a time. What further ones write is counted by the next scan."""

FULL = {errno.ENOSPC, errno.EDQUOT}
"""Errors of writing to a full disk."""

_MARK = b"tally 1\n"
_BASE = struct.Struct("<8sqd")
_SLOT = struct.Struct("<qq")
_ALL = struct.Struct(f"<8sqd{2 * SLOTS}q")
END = BEGIN + _ALL.size
_LOCKS = 1 << 61
"""The first of the bytes that are locked for slots: beyond those for objects."""

_SCAN_LOCK = 1 << 62
"""The byte that is locked by the process that counts the files."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on the disk, as of a moment ago: ``named`` of files with a name, ``held`` of removed
    files that are still open. ``counted`` is the time of the last scan, in seconds since the epoch.
    """

    named: int
    held: int
    counted: float

    @property
    def total(self) -> int:
        """Both."""
        return self.named + self.held


class SharedUsage:
    """The counters in an open file, and this process's slot in it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._slot = self._free_slot()
        self._written = self._left_behind()
        self._grown, self._held = self._written[0], 0
        self.flush()

    @property
    def held(self) -> int:
        """Bytes of removed files that this process has open."""
        return self._held

    def add(self, count: int) -> None:
        """Files with a name have grown; other processes see it after :meth:`flush`."""
        with self._lock:
            self._grown += count

    def removed(self, count: int) -> None:
        """A file of so many bytes was removed. Raises ``OSError``."""
        self.add(-count)
        self.flush()

    def hold(self, count: int) -> None:
        """Set :attr:`held`. Raises ``OSError``."""
        self._held = count
        self.flush()

    def flush(self) -> None:
        """Let other processes see what was added. Raises ``OSError``."""
        with self._lock:
            now = (self._grown, self._held)
            if (
                self._slot is not None
                and now != self._written
                and self._put(_SLOT.pack(*now), _offset(self._slot))
            ):
                self._written = now

    def read(self) -> Usage | None:
        """The total now; ``None`` before the first scan. Raises ``OSError``."""
        self.flush()
        mark, base, counted, *slots = self._all()
        if mark != _MARK:
            return None
        with self._lock:  # what could not be written counts in this process at least
            grown, held = self._grown - self._written[0], self._held - self._written[1]
        return Usage(max(base + sum(slots[::2]) + grown, 0), sum(slots[1::2]) + held, counted)

    def recount(self, count: Callable[[], int]) -> int:
        """Correct the total: ``count`` scans the files with a name and returns their bytes."""
        before = self._grown_in_all()
        found = count()
        # Of what was added during the scan, about half was seen, as files are looked at one by one.
        seen = (before + self._grown_in_all()) // 2
        self._put(_BASE.pack(_MARK, found - seen, time.time()), BEGIN)
        return found

    def forget_the_dead(self) -> None:
        """Clear what ended processes held: that space is free. Raises ``OSError``."""
        if self._slot is None:
            return
        held = self._all()[4::2]
        for slot in (slot for slot, count in enumerate(held) if count and slot != self._slot):
            if locks.try_lock(self._descriptor, _LOCKS + slot, 1):
                self._put(bytes(8), _offset(slot) + 8)
                locks.unlock(self._descriptor, _LOCKS + slot, 1)

    def try_lock_scan(self) -> bool:
        """Become the one process that counts the files. Raises ``OSError``."""
        return locks.try_lock(self._descriptor, _SCAN_LOCK, 1)

    def unlock_scan(self) -> None:
        """Let others count."""
        locks.unlock(self._descriptor, _SCAN_LOCK, 1)

    def _grown_in_all(self) -> int:
        self.flush()
        return sum(self._all()[3::2])

    def _all(self) -> tuple[Any, ...]:
        raw = os.pread(self._descriptor, _ALL.size, BEGIN)
        return _ALL.unpack(raw.ljust(_ALL.size, b"\0"))

    def _free_slot(self) -> int | None:
        slots = range(SLOTS)
        try:
            return next((s for s in slots if locks.try_lock(self._descriptor, _LOCKS + s, 1)), None)
        except OSError as error:
            if error.errno == errno.EBADF:  # open for reading only
                return None
            raise

    def _left_behind(self) -> tuple[int, int]:
        """What an earlier process has left in this slot: it stays counted."""
        if self._slot is None:
            return 0, 0
        raw = os.pread(self._descriptor, _SLOT.size, _offset(self._slot))
        grown, held = _SLOT.unpack(raw.ljust(_SLOT.size, b"\0"))
        return grown, held

    def _put(self, data: bytes, offset: int) -> bool:
        """Write, unless there is no space for that. Raises ``OSError``."""
        try:
            os.pwrite(self._descriptor, data, offset)
        except OSError as error:
            if error.errno in FULL:
                return False  # other processes see it later; they cannot write either
            raise
        return True


def _offset(slot: int) -> int:
    return BEGIN + _BASE.size + slot * _SLOT.size
