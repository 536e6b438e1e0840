"""An open cache file: reading and writing its header, its records and the object's bytes.

Everything here blocks and is called in threads. :mod:`rangeserver.cache.opening` opens and makes
files, :mod:`rangeserver.cache.claims` finds and locks blocks in them.

A block's bytes are written before its record, so that no process sees a record without the bytes.
Both are in the page cache then, which outlives our processes. A machine that crashes may lose
either one, so every process checks each block against its record before it first uses it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from itertools import groupby
from stat import S_IRUSR, S_ISVTX, S_IWUSR

from rangeserver.cache import locks
from rangeserver.cache.blocks import ABSENT, RECORD_BYTES, Layout, pack_record, read_records
from rangeserver.cache.header import Header, load_header, pack_header
from rangeserver.cache.runs import Runs
from rangeserver.protocol.ranges import ByteSpan

_READ_BYTES = 256 * 1024
_RECORDS = 8192
"""Records read at a time."""

_UNLINKED_LOCK = 1 << 62
"""Of the processes that have a removed file open, the one that locks this byte counts its size."""


class CacheFile:
    """A cache file. It is open as long as anything refers to this object, such as a transport that
    sends from it: its descriptor can never come to mean another file meanwhile.
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
        """Whether :meth:`give_up` was called: readers continue with another file."""

    def __del__(self) -> None:
        # Closing the last descriptor of a large removed file frees its extents, which takes long.
        self._close(self._descriptor)

    def fileno(self) -> int:
        """The descriptor, valid as long as this object exists."""
        return self._descriptor

    # The file as a whole

    def is_current(self) -> bool:
        """Whether the file still has a name and its length; does not block."""
        stat = os.fstat(self._descriptor)
        return stat.st_nlink > 0 and stat.st_size == self.layout.file_bytes

    @property
    def unlinked(self) -> bool:
        """Whether it was removed and not given up; does not block."""
        return not self.gone and os.fstat(self._descriptor).st_nlink == 0

    def unlinked_bytes(self) -> int:
        """What a removed file occupies on the disk because it is open; 0 if another process counts
        it, or another object of this process. Raises ``OSError``.
        """
        if self.writable and not locks.try_lock(self._descriptor, _UNLINKED_LOCK, 1):
            return 0
        return os.fstat(self._descriptor).st_blocks * 512

    def give_up(self) -> None:
        """Give the disk its space back though the file is open, for good: the descriptor now refers
        to an empty file, so that reads end short and writes fail. Raises ``OSError``.
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

    def touch(self) -> None:
        """Note that the file is in use: the least recently used are evicted first. Raises
        ``OSError``.
        """
        os.utime(self._descriptor)

    def mark_reused(self) -> None:
        """Note that its content was read again: other files are evicted first. Raises ``OSError``.

        The sticky bit means nothing for files today (long ago: keep a program in memory).
        """
        self.touch()
        os.fchmod(self._descriptor, S_IRUSR | S_IWUSR | S_ISVTX)

    # Its header

    def change_header(self, change: Callable[[Header], Header]) -> None:
        """Replace the header, as other processes have left it, by one of the same layout.

        Raises :class:`InvalidCacheFile`, ``OSError``, and ``ValueError`` if it is too large.
        """
        header = change(load_header(self._descriptor))
        write_all(self._descriptor, pack_header(header), 0)
        self.header = header

    def reread_header(self) -> Header:
        """The header as other processes have left it. Raises :class:`InvalidCacheFile` and
        ``OSError``.
        """
        self.header = load_header(self._descriptor)
        return self.header

    # The object's bytes

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write bytes of the object at their offset. Raises ``OSError``.

        If somebody has truncated the file, it is given up: written to, it would have its length
        again, and a hole.
        """
        if os.fstat(self._descriptor).st_size != self.layout.file_bytes and not self.gone:
            self.give_up()
        write_all(self._descriptor, data, self.layout.data_offset + offset)

    def warm(self, span: ByteSpan) -> None:
        """Read bytes of the object into the page cache. Raises ``OSError``."""
        start = self.layout.data_offset + span.start
        stop = self.layout.data_offset + span.stop
        for offset in range(start, stop, _READ_BYTES):
            wanted = min(_READ_BYTES, stop - offset)
            if len(os.pread(self._descriptor, wanted, offset)) < wanted:
                msg = "the file was cut short"
                raise OSError(msg)

    # Its records

    def record(self, block: int, checksum: int) -> None:
        """Note that all bytes of a block are written. Raises ``OSError``."""
        write_all(self._descriptor, pack_record(checksum), self.layout.record_offset(block))

    def erase_record(self, block: int) -> None:
        """Note that a block is not here. Raises ``OSError``."""
        write_all(self._descriptor, ABSENT, self.layout.record_offset(block))

    def checksums(self, first: int, stop: int) -> list[int | None]:
        """Those in the records of the blocks ``[first, stop)``; ``None`` for a block that is not
        here. Raises ``OSError``.
        """
        length = (stop - first) * RECORD_BYTES
        raw = os.pread(self._descriptor, length, self.layout.record_offset(first))
        return read_records(raw.ljust(length, b"\0"))

    def present(self, first: int = 0, stop: int | None = None) -> Runs:
        """Which of the blocks ``[first, stop)`` have a record; not checked. Raises ``OSError``."""
        found = Runs()
        stop = self.layout.blocks if stop is None else stop
        for begin in range(first, stop, _RECORDS):
            checksums = self.checksums(begin, min(begin + _RECORDS, stop))
            for here, run in groupby(enumerate(checksums, begin), lambda each: each[1] is not None):
                if here:
                    blocks = [block for block, _ in run]
                    found.add(blocks[0], blocks[-1] + 1)
        return found

    def verify(self, block: int) -> bool:
        """Whether a block has a record and matches it. Raises ``OSError``."""
        checksum = self.checksums(block, block + 1)[0]
        return checksum is not None and self.matches(block, checksum)

    def matches(self, block: int, checksum: int) -> bool:
        """Whether the bytes of a block have this checksum; not if the disk cannot read them."""
        span = self.layout.span(block, block + 1)
        found = 0
        offset, left = self.layout.data_offset + span.start, span.length
        while left:
            try:
                data = os.pread(self._descriptor, min(left, _READ_BYTES), offset)
            except OSError:
                return False
            if not data:
                return False
            found = zlib.crc32(data, found)
            offset += len(data)
            left -= len(data)
        return found == checksum


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``. Raises ``OSError``."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
