"""Locks on ranges of a file that the kernel releases when their owner dies.

Open file description locks (fcntl(2), Linux): they belong to the open file, not to the process.
Unlike POSIX locks they are not released when another descriptor of the same file is closed. They
exclude each other between files that were opened separately, in one process or in several.
"""

from __future__ import annotations

import errno
import fcntl
import struct

_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid (0 for these locks)


def try_lock(descriptor: int, start: int, length: int) -> bool:
    """Lock bytes of a file if they are free; does not wait. Raises ``OSError``."""
    try:
        _call(descriptor, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, start, length)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def unlock(descriptor: int, start: int, length: int) -> None:
    """Unlock bytes of a file. Raises ``OSError``."""
    _call(descriptor, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, start, length)


def first_locked(descriptor: int, start: int, length: int) -> int | None:
    """The offset of the first byte that another open file has locked; ``None`` if none has."""
    answer = _call(descriptor, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, start, length)
    kind, _, found, _, _ = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else max(found, start)


def _call(descriptor: int, command: int, kind: int, start: int, length: int) -> bytes:
    return fcntl.fcntl(descriptor, command, _FLOCK.pack(kind, 0, start, length, 0))
