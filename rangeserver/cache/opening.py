"""Opening and making cache files, and what proves that a file is ours. Blocks; for threads.

A file is ours if it is a plain file of the cache's owner and begins as our files do. Anything else
with such a name was put there by somebody else, and is left alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from stat import S_ISREG

from rangeserver.cache.blocks import HEADER_BYTES
from rangeserver.cache.cache_file import CacheFile, write_all
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile
from rangeserver.cache.header import Header, begins_as_ours, load_header, pack_header
from rangeserver.cache.open_directory import OpenDirectory

_NOT_OPENED = {errno.ELOOP, errno.EISDIR, errno.ENXIO}
"""Errors of opening a symbolic link, a directory and a socket."""

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}

_NOT_A_FILE = "not a file"
_MAX_FILE_BYTES = (1 << 63) - 1
"""Of any file system."""


def open_file(
    within: OpenDirectory, name: str, *, owner: int, close: Callable[[int], object]
) -> CacheFile:
    """Open a cache file of ``owner``, for reading only if need be. Raises
    :class:`InvalidCacheFile`, :class:`ForeignFile` and ``OSError``.
    """
    try:
        descriptor = within.open_file(name, os.O_RDWR)
        writable = True
    except OSError as error:
        if error.errno in _NOT_OPENED:
            raise ForeignFile(_NOT_A_FILE) from None
        if error.errno not in _READ_ONLY:
            raise
        descriptor = within.open_file(name, os.O_RDONLY)
        writable = False
    try:
        stat = os.fstat(descriptor)
        if (problem := _foreign(stat, owner)) is not None:
            raise ForeignFile(problem)
        header = load_header(descriptor)
        if stat.st_size != header.layout.file_bytes:
            msg = "wrong length"
            raise InvalidCacheFile(msg)
    except BaseException:
        os.close(descriptor)
        raise
    return CacheFile(descriptor, header, writable=writable, close=close)


def create_file(
    within: OpenDirectory, name: str, header: Header, *, close: Callable[[int], object]
) -> CacheFile:
    """Make a file without blocks. Raises ``OSError``, and ``ValueError`` if the header is too
    large.
    """
    packed = pack_header(header)
    if header.layout.file_bytes > _MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    descriptor = within.open_file(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        write_all(descriptor, packed, 0)
        os.ftruncate(descriptor, header.layout.file_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    return CacheFile(descriptor, header, writable=True, close=close)


def is_ours(within: OpenDirectory, name: str, *, owner: int) -> bool:
    """Whether a file is proved to be of a cache of ``owner``."""
    try:
        descriptor = within.open_file(name, os.O_RDONLY)
    except OSError:
        return False
    try:
        if _foreign(os.fstat(descriptor), owner) is not None:
            return False
        return begins_as_ours(os.pread(descriptor, HEADER_BYTES, 0))
    except OSError:
        return False  # what cannot be read proves nothing
    finally:
        os.close(descriptor)


def _foreign(stat: os.stat_result, owner: int) -> str | None:
    """Why it cannot be ours, whatever is in it."""
    if not S_ISREG(stat.st_mode):
        return _NOT_A_FILE
    return "another user's" if stat.st_uid != owner else None
