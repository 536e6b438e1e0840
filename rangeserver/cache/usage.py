"""What a cache takes of the disk, kept by all its processes together. Blocks, for threads.

Each has a slot in a file that they share, into which it alone writes: how much the files with a
name have grown by what it did, and what it holds of files without one. Their sum, and what was
there before, is the whole. Nobody waits for anybody, and what a process that was killed has
written stays counted. It is an estimate: now and then somebody counts the files and corrects it.

    offset 0  whatever else is in the file
    BEGIN     mark, base, time of the last count
    ...       a slot for each process, locked by it: grown, held
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
"""Processes of one cache at a time; what further ones write is counted late."""

FULL = {errno.ENOSPC, errno.EDQUOT}
"""What writing fails with for want of space."""

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
    """Bytes of the disk, as of a moment ago: ``named`` of files with a name, ``held`` of files that
    were removed and are still open. ``counted`` is when the files were counted last.
    """

    named: int
    held: int
    counted: float

    @property
    def total(self) -> int:
        """All of it."""
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
        """What this process said that it holds."""
        return self._held

    def add(self, count: int) -> None:
        """Files with a name have grown by so many bytes; others see it after :meth:`flush`."""
        with self._lock:
            self._grown += count

    def removed(self, count: int) -> None:
        """A file of so many bytes has lost its name. Raises ``OSError``."""
        self.add(-count)
        self.flush()

    def hold(self, count: int) -> None:
        """So many bytes of files without a name are held by this process. Raises ``OSError``."""
        self._held = count
        self.flush()

    def flush(self) -> None:
        """Let others see what was added. Raises ``OSError``."""
        with self._lock:
            now = (self._grown, self._held)
            if (
                self._slot is not None
                and now != self._written
                and self._put(_SLOT.pack(*now), _offset(self._slot))
            ):
                self._written = now

    def read(self) -> Usage | None:
        """What is taken now; ``None`` if that was never counted. Raises ``OSError``."""
        self.flush()
        mark, base, counted, *slots = self._all()
        if mark != _MARK:
            return None
        with self._lock:  # what could not be written counts for us at least
            grown, held = self._grown - self._written[0], self._held - self._written[1]
        return Usage(max(base + sum(slots[::2]) + grown, 0), sum(slots[1::2]) + held, counted)

    def recount(self, count: Callable[[], int]) -> int:
        """Correct the counters by what ``count`` finds in the files with a name."""
        before = self._grown_in_all()
        found = count()
        # Of what came meanwhile, half was seen in the files: they were looked at one by one.
        seen = (before + self._grown_in_all()) // 2
        self._put(_BASE.pack(_MARK, found - seen, time.time()), BEGIN)
        return found

    def forget_the_dead(self) -> None:
        """What a process held is free when it has ended. Raises ``OSError``."""
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
            if error.errno == errno.EBADF:  # open for reading alone
                return None
            raise

    def _left_behind(self) -> tuple[int, int]:
        """What an earlier process has left in this slot: what it added stays added."""
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
                return False  # others, who cannot write either, will see it later
            raise
        return True


def _offset(slot: int) -> int:
    return BEGIN + _BASE.size + slot * _SLOT.size
