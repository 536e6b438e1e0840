"""Locks on ranges of a file that the kernel frees when their owner dies.

Open file description locks (fcntl(2), Linux): they belong to the open file, not to the process,
so that closing another descriptor of the same file does not drop them, as POSIX locks would be.
Between files opened apart they exclude one another, whether in one process or in several.
"""

from __future__ import annotations

import errno
import fcntl
import struct

_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid (0 for these locks)


def try_lock(descriptor: int, start: int, length: int) -> bool:
    """Lock bytes of a file for writing, at once or not at all. Raises ``OSError``."""
    try:
        _call(descriptor, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, start, length)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def unlock(descriptor: int, start: int, length: int) -> None:
    """Free bytes of a file. Raises ``OSError``."""
    _call(descriptor, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, start, length)


def first_locked(descriptor: int, start: int, length: int) -> int | None:
    """Where the first range begins that somebody else has locked; ``None`` if there is none."""
    answer = _call(descriptor, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, start, length)
    kind, _, found, _, _ = _FLOCK.unpack(answer)
    return None if kind == fcntl.F_UNLCK else max(found, start)


def _call(descriptor: int, command: int, kind: int, start: int, length: int) -> bytes:
    return fcntl.fcntl(descriptor, command, _FLOCK.pack(kind, 0, start, length, 0))
