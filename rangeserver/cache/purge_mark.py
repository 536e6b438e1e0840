"""A mark that tells all servers of a cache that something was purged.

A server may have the facts of a purged object in memory and answer from these alone (a HEAD, a
304). So each purge writes eight random bytes into the file that marks the cache, and servers
compare them before they use facts from memory. The bytes lie behind the usage counters, which are
read every second, and are therefore in the page cache.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress

from rangeserver.cache.usage import END

_BYTES = 8

_READ_SECONDS = 0.01
"""How often the mark is read: a purge may be noticed this much later."""


def renew_mark(descriptor: int) -> None:
    """Say that something was purged. Raises ``OSError``."""
    os.pwrite(descriptor, os.urandom(_BYTES), END)


def read_mark(descriptor: int) -> bytes:
    """What the last purge has written; does not block. Raises ``OSError``."""
    return os.pread(descriptor, _BYTES, END)


class PurgeWatch:
    """The mark as it was a moment ago; ``read`` reads it."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.mark = b""
        """What changes with each purge."""
        self._read = read
        self._read_at = -math.inf

    def look(self) -> None:
        """Read it again if that is due."""
        now = time.monotonic()
        if now - self._read_at >= _READ_SECONDS:
            self._read_at = now
            with suppress(OSError):  # no news; a failing disk is reported where it is needed
                self.mark = self._read()
