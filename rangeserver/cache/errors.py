"""What can go wrong in the cache. None of it reaches a client: the origin is read instead.

CacheFailed               the disk did not do what was needed
NoRoom                    a write would exceed a limit
NotCached                 a warmed object cannot be kept
InvalidCacheFile          not a file of this format, or no longer one
ForeignFile             nothing shows that a cache has made it: left alone
UnreadableFile        the disk or its permissions do not let us look
DiskStuck (OSError)       the disk does not answer
"""

from __future__ import annotations


class CacheFailed(Exception):
    """The disk did not do what was needed: read from the origin instead."""


class NoRoom(Exception):
    """A write would exceed a limit."""


class NotCached(Exception):
    """An object cannot be kept in the cache; the message says why."""


class InvalidCacheFile(Exception):
    """A file that is no cache file of this format, or no longer one."""


class ForeignFile(InvalidCacheFile):
    """Nothing shows that a cache has made this file, whatever its name: it is left alone."""


class UnreadableFile(ForeignFile):
    """Nothing can be learned of this file: the disk or its permissions do not allow it."""


class DiskStuck(OSError):
    """The disk does not answer."""

    def __init__(self) -> None:
        super().__init__(0, "the disk does not answer")
