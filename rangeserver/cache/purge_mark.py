"""That something was purged, told to all servers that share the cache.

Of a purged object they may have facts in memory, and answer out of these alone: a HEAD, a 304. So
each purge leaves eight bytes that no other has left, in the file that marks the cache, where they
are looked for before facts are believed. They lie behind the tally, which is read every second, and
so in memory.
"""

from __future__ import annotations

import os

from rangeserver.cache.tally import END

_BYTES = 8


def renew_mark(descriptor: int) -> None:
    """Say that something was purged. Raises ``OSError``."""
    os.pwrite(descriptor, os.urandom(_BYTES), END)


def read_mark(descriptor: int) -> bytes:
    """What the last purge has left; does not block. Raises ``OSError``."""
    return os.pread(descriptor, _BYTES, END)
