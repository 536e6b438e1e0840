"""A mark that tells all servers of a cache that something was purged.

A server may have the facts of a purged object in memory and answer from these alone (a HEAD, a
304). So each purge writes eight random bytes into the file that marks the cache, and servers
compare them before they use facts from memory. The bytes lie behind the usage counters, which are
read every second, and are therefore in the page cache.
"""

from __future__ import annotations

import os

from rangeserver.cache.usage import END

_BYTES = 8


def renew_mark(descriptor: int) -> None:
    """Say that something was purged. Raises ``OSError``."""
    os.pwrite(descriptor, os.urandom(_BYTES), END)


def read_mark(descriptor: int) -> bytes:
    """What the last purge has left; does not block. Raises ``OSError``."""
    return os.pread(descriptor, _BYTES, END)
