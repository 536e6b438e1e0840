"""Whether bytes of a file are in the page cache, asked without ever waiting for the disk.

The event loop hands a file's bytes to the kernel with sendfile, which waits for the disk like
any read. So it asks first, and lets a thread read what is not in memory.

Linux 6.5 counts a range's pages in one call (cachestat(2)). Older kernels are asked for a byte
here and there with RWF_NOWAIT (preadv2(2)): what was read together is mostly dropped together.
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
    """A function that asks this way, if the kernel can and is allowed to."""
    # PyDLL: a call that cannot block need not give up the interpreter and fight for it again.
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

    # A descriptor that is none: EBADF says that the call is there.
    call(_CACHESTAT, -1, at_range, at_counts, 0)
    return resident if ctypes.get_errno() == errno.EBADF else None


def by_probing(descriptor: int, offset: int, length: int) -> bool:
    """Whether bytes taken here and there are in memory, the first and the last among them."""
    byte = bytearray(1)
    last = offset + length - 1
    try:
        for at in (*range(offset, last, _PROBE_EVERY_BYTES), last):
            os.preadv(descriptor, [byte], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False  # a file system that cannot tell: let a thread read first
        raise
    return True


is_resident: Callable[[int, int, int], bool] = by_cachestat() or by_probing
"""Whether ``length`` bytes at ``offset`` of a descriptor are in memory. Raises ``OSError``."""
