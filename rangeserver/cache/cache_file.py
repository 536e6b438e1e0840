"""One cache file: the calls that read and write it. They block, and are for threads.

Of two things no other process must see the second without the first, the first is written
first: a block's bytes before its record. Both lie in the page cache then, which outlives any of
our processes; a machine that goes down may lose either and keep the other, and therefore every
process checks every block against its record before it first uses it.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from stat import S_ISREG

from rangeserver.cache import locks
from rangeserver.cache.blocks import (
    ABSENT,
    HEADER_BYTES,
    RECORD_BYTES,
    Layout,
    pack_record,
    read_records,
)
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile
from rangeserver.cache.header import Header, is_of_ours, pack_header, read_header
from rangeserver.cache.open_directory import OpenDirectory
from rangeserver.cache.runs import Runs
from rangeserver.protocol.ranges import ByteSpan

CHECK_BYTES = 2 << 20
"""As much is checked for one who asks: a disk reads it in some milliseconds."""

_READ_BYTES = 256 * 1024
_RECORDS = 8192
"""As many are read at a time."""

_HEADER_READS = 3
"""One who reads a header while another process rewrites it may see half of either (ext4: in 1 of
400 cases when it is rewritten without a pause), which is no reason to throw the file away.
"""
_HELD = 1 << 62
"""The byte whose lock makes one of those who have a removed file open count it."""

_NO_FILE = {errno.ELOOP, errno.EISDIR, errno.ENXIO}
"""What a symbolic link, a directory and a socket cannot be opened for."""

_NOT_A_FILE = "not a file"
_MAX_FILE_BYTES = (1 << 63) - 1
"""Of any file system."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What was found of some blocks, and done about it.

    ``good`` blocks are here and were checked. ``run`` are the blocks ``[first, stop)`` that are
    locked for this process to fetch, if any. ``damaged`` counts those that were found and were
    not what their records say.
    """

    good: list[int]
    run: tuple[int, int] | None = None
    damaged: int = 0


class CacheFile:
    """An open file. It stays open as long as anything refers to it, be it a transport that
    sends from it, so that its descriptor can never come to mean another file meanwhile.
    """

    def __init__(
        self, descriptor: int, header: Header, *, writable: bool, close: Callable[[int], object]
    ) -> None:
        self._descriptor = descriptor
        self._close = close
        self.header = header
        self.layout: Layout = header.layout
        self.writable = writable
        self.gone = False
        """Whether it was given up: what is still needed of it is to be had elsewhere."""

    @classmethod
    def opened(
        cls, within: OpenDirectory, name: str, *, owner: int, close: Callable[[int], object]
    ) -> CacheFile:
        """Open a file that exists and is ``owner``'s. Raises :class:`InvalidCacheFile`,
        :class:`ForeignFile` and ``OSError``.
        """
        try:
            descriptor = within.open_file(name, os.O_RDWR)
            writable = True
        except OSError as error:
            if error.errno in _NO_FILE:
                raise ForeignFile(_NOT_A_FILE) from None
            if not is_read_only(error):
                raise
            descriptor = within.open_file(name, os.O_RDONLY)
            writable = False
        try:
            stat = os.fstat(descriptor)
            if (problem := _foreign(stat, owner)) is not None:
                raise ForeignFile(problem)
            header = _header_of(descriptor)
            if stat.st_size != header.layout.file_bytes:
                msg = "wrong length"
                raise InvalidCacheFile(msg)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, header, writable=writable, close=close)

    @classmethod
    def created(
        cls, within: OpenDirectory, name: str, header: Header, *, close: Callable[[int], object]
    ) -> CacheFile:
        """Make a file. Raises ``OSError``; ``ValueError`` if the header does not fit."""
        packed = _packed(header)
        if header.layout.file_bytes > _MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        descriptor = within.open_file(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            write_all(descriptor, packed, 0)
            os.ftruncate(descriptor, header.layout.file_bytes)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, header, writable=True, close=close)

    def __del__(self) -> None:
        # The last to close a large file that was deleted frees its extents, which takes a while.
        self._close(self._descriptor)

    def fileno(self) -> int:
        """The descriptor, valid as long as this object."""
        return self._descriptor

    @property
    def nameless(self) -> bool:
        """Whether it was removed, and is not given up; does not block."""
        return not self.gone and os.fstat(self._descriptor).st_nlink == 0

    def held_bytes(self) -> int:
        """What a removed file takes of the disk because it is open; 0 if another process counts it,
        or another that opened it. Raises ``OSError``.
        """
        if self.writable and not locks.try_lock(self._descriptor, _HELD, 1):
            return 0
        return os.fstat(self._descriptor).st_blocks * 512

    def give_up(self) -> None:
        """Let the disk have its space though it is open, for good. Reads end short then, as of a
        file that was cut, and what would write fails. Raises ``OSError``.
        """
        self.gone = True
        empty = os.memfd_create("given-up", os.MFD_CLOEXEC)
        try:
            to_read = os.open(f"/proc/self/fd/{empty}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.dup2(to_read, self._descriptor, inheritable=False)
            finally:
                os.close(to_read)
        finally:
            os.close(empty)

    def is_current(self) -> bool:
        """Whether the file still has a name and its length; does not block."""
        stat = os.fstat(self._descriptor)
        return stat.st_nlink > 0 and stat.st_size == self.layout.file_bytes

    def change_header(self, change: Callable[[Header], Header]) -> None:
        """Replace the header, as others have left it, by one of the same layout. Raises
        :class:`InvalidCacheFile`, ``OSError`` and ``ValueError``.
        """
        header = change(_header_of(self._descriptor))
        packed = _packed(header)
        write_all(self._descriptor, packed, 0)
        self.header = header

    def reread_header(self) -> Header:
        """The header as others have left it. Raises :class:`InvalidCacheFile` and ``OSError``."""
        self.header = _header_of(self._descriptor)
        return self.header

    def claim(self, first: int, stop: int, *, fetch: bool, locking: bool = True) -> Claim:
        """Look for the blocks ``[first, stop)``, and if ``first`` is not here, lock it and those
        missing after it, unless others have; without ``locking``, say only which these are. Never
        looks at more than :data:`CHECK_BYTES`.
        """
        damaged = 0
        while True:
            records = self._records(first, stop)
            good: list[int] = []
            for block, checksum in enumerate(records, first):
                if checksum is None or (good and self._beyond_check(first, block)):
                    break
                if not self._is_good(block, checksum):
                    damaged += 1
                    if fetch:
                        self._discard(block)
                    break
                good.append(block)
            if good or not fetch:
                return Claim(good, damaged=damaged)
            run = self._lock_missing(first, stop) if locking else self._missing(first, stop)
            if run is None:
                return Claim([], damaged=damaged)
            if run[0] < run[1]:
                return Claim([], run, damaged)
            # Somebody completed it between the look and the lock.

    def is_settled(self, block: int) -> bool:
        """Whether a block has a record, or no other process has it locked. Raises ``OSError``."""
        if self._records(block, block + 1)[0] is not None:
            return True
        start = self.layout.record_offset(block)
        return locks.first_locked(self._descriptor, start, RECORD_BYTES) is None

    def release(self, run: tuple[int, int]) -> None:
        """Free the lock on blocks that were claimed; does not block."""
        start = self.layout.record_offset(run[0])
        locks.unlock(self._descriptor, start, (run[1] - run[0]) * RECORD_BYTES)

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes of the object at their offset. Raises ``OSError``, also if somebody has cut
        the file: it is given up, for behind the cut it would have its length again, and a hole.
        """
        if os.fstat(self._descriptor).st_size != self.layout.file_bytes and not self.gone:
            self.give_up()
        write_all(self._descriptor, data, self.layout.data_offset + offset)

    def record(self, block: int, checksum: int) -> None:
        """Note that all bytes of a block were written. Raises ``OSError``."""
        write_all(self._descriptor, pack_record(checksum), self.layout.record_offset(block))

    def warm(self, span: ByteSpan) -> None:
        """Read bytes of the object, so that the kernel has them. Raises ``OSError``."""
        start = self.layout.data_offset + span.start
        stop = self.layout.data_offset + span.stop
        for offset in range(start, stop, _READ_BYTES):
            wanted = min(_READ_BYTES, stop - offset)
            if len(os.pread(self._descriptor, wanted, offset)) < wanted:
                msg = "the file was cut short"
                raise OSError(msg)

    def present(self, first: int = 0, stop: int | None = None) -> Runs:
        """Which of the blocks ``[first, stop)`` have a record, checked or not."""
        found = Runs()
        stop = self.layout.blocks if stop is None else stop
        for begin in range(first, stop, _RECORDS):
            records = self._records(begin, min(begin + _RECORDS, stop))
            for here, run in groupby(enumerate(records, begin), lambda each: each[1] is not None):
                if here:
                    blocks = [block for block, _ in run]
                    found.add(blocks[0], blocks[-1] + 1)
        return found

    def verify(self, block: int) -> bool:
        """Whether a block that has a record is what it says. Raises ``OSError``."""
        checksum = self._records(block, block + 1)[0]
        return checksum is not None and self._is_good(block, checksum)

    def _records(self, first: int, stop: int) -> list[int | None]:
        length = (stop - first) * RECORD_BYTES
        raw = os.pread(self._descriptor, length, self.layout.record_offset(first))
        return read_records(raw.ljust(length, b"\0"))

    def _beyond_check(self, first: int, block: int) -> bool:
        return (block + 1 - first) * self.layout.block_bytes > CHECK_BYTES

    def _is_good(self, block: int, checksum: int) -> bool:
        span = self.layout.span(block, block + 1)
        found = 0
        offset, left = self.layout.data_offset + span.start, span.length
        while left:
            try:
                data = os.pread(self._descriptor, min(left, _READ_BYTES), offset)
            except OSError:
                return False  # what a disk cannot read is as good as absent
            if not data:
                return False
            found = zlib.crc32(data, found)
            offset += len(data)
            left -= len(data)
        return found == checksum

    def _discard(self, block: int) -> None:
        write_all(self._descriptor, ABSENT, self.layout.record_offset(block))

    def _lock_missing(self, first: int, stop: int) -> tuple[int, int] | None:
        """Lock ``first`` and the missing blocks after it: ``None`` if it is locked by others, an
        empty run if it is here.
        """
        layout, descriptor = self.layout, self._descriptor
        start = layout.record_offset(first)
        while not locks.try_lock(descriptor, start, (stop - first) * RECORD_BYTES):
            taken = locks.first_locked(descriptor, start, (stop - first) * RECORD_BYTES)
            if taken is None:
                continue  # freed between the two calls
            stop = first + (taken - start) // RECORD_BYTES
            if stop <= first:
                return None
        run = self._missing(first, stop)
        if run[1] < stop:
            self.release((run[1], stop))
        return run

    def _missing(self, first: int, stop: int) -> tuple[int, int]:
        """``first`` and those blocks after it that have no record."""
        missing = first
        for checksum in self._records(first, stop):
            if checksum is not None:
                break
            missing += 1
        return first, missing


def _packed(header: Header) -> bytes:
    packed = pack_header(header)
    if packed is None:
        msg = "its facts are too large for a header"
        raise ValueError(msg)
    return packed


def is_ours(within: OpenDirectory, name: str, *, owner: int) -> bool:
    """Whether a file proves to be of a cache: ``owner``'s, a file, and begins as ours do."""
    try:
        descriptor = within.open_file(name, os.O_RDONLY)
    except OSError:
        return False
    try:
        if _foreign(os.fstat(descriptor), owner) is not None:
            return False
        return is_of_ours(os.pread(descriptor, HEADER_BYTES, 0))
    except OSError:
        return False  # what cannot be read proves nothing
    finally:
        os.close(descriptor)


def _foreign(stat: os.stat_result, owner: int) -> str | None:
    """Why something cannot be a file of ours, whatever is in it."""
    if not S_ISREG(stat.st_mode):
        return _NOT_A_FILE
    return "another user's" if stat.st_uid != owner else None


def _header_of(descriptor: int) -> Header:
    """The header of an open file. Raises :class:`InvalidCacheFile` and ``OSError``."""
    for _ in range(_HEADER_READS - 1):
        with suppress(InvalidCacheFile):
            return read_header(os.pread(descriptor, HEADER_BYTES, 0))
    return read_header(os.pread(descriptor, HEADER_BYTES, 0))


def is_read_only(error: OSError) -> bool:
    """Whether a file could not be opened for writing, though perhaps for reading."""
    return error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``. Raises ``OSError``."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
