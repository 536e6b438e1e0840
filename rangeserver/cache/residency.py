"""Whether bytes of a file are resident in the page cache; never waits for the disk.

The event loop sends files with sendfile, which waits for the disk like any read. So it asks first,
and lets a thread read what is not resident.

Linux 6.5 counts the pages of a range in one call (cachestat(2)). With older kernels some bytes are
probed with RWF_NOWAIT (preadv2(2)): pages that were read together are mostly evicted together.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

_PAGE_BYTES = 4096
_CACHESTAT = 451
"""The number of the system call, the same on all architectures that Python runs on but Alpha."""

_PROBE_EVERY_BYTES = 64 * 1024


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Counts(ctypes.Structure):
    _fields_ = (
        ("cached", ctypes.c_uint64),
        ("dirty", ctypes.c_uint64),
        ("writeback", ctypes.c_uint64),
        ("evicted", ctypes.c_uint64),
        ("recently_evicted", ctypes.c_uint64),
    )


def by_cachestat() -> Callable[[int, int, int], bool] | None:
    """A function that uses cachestat, if the kernel has it and allows it."""
    # PyDLL: a call that cannot block need not release the interpreter lock and wait for it again.
    call = ctypes.PyDLL(None, use_errno=True).syscall
    asked, counts = _Range(), _Counts()
    at_range, at_counts = ctypes.byref(asked), ctypes.byref(counts)

    def resident(descriptor: int, offset: int, length: int) -> bool:
        asked.offset = offset
        asked.length = length
        if call(_CACHESTAT, descriptor, at_range, at_counts, 0):
            return by_probing(descriptor, offset, length)
        first = offset // _PAGE_BYTES
        stop = -(-(offset + length) // _PAGE_BYTES)
        return bool(counts.cached >= stop - first)

    # With an invalid descriptor, EBADF shows that the call exists.
    call(_CACHESTAT, -1, at_range, at_counts, 0)
    return resident if ctypes.get_errno() == errno.EBADF else None


def by_probing(descriptor: int, offset: int, length: int) -> bool:
    """Whether sampled bytes are resident, the first and the last among them."""
    byte = bytearray(1)
    last = offset + length - 1
    try:
        for at in (*range(offset, last, _PROBE_EVERY_BYTES), last):
            os.preadv(descriptor, [byte], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False  # not supported by the file system: let a thread read first
        raise
    return True


is_resident: Callable[[int, int, int], bool] = by_cachestat() or by_probing
"""Whether ``length`` bytes at ``offset`` of a descriptor are in memory. Raises ``OSError``."""
