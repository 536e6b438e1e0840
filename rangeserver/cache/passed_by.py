"""Objects that cannot be cached for a reason of their own: for a while the cache is bypassed.

Their file name is taken by something that cannot be opened, they are larger than a file may be, or
their facts do not fit into its header. The directory works for other objects. Trying again, and
logging the same, with every request would be of no use.
"""

from __future__ import annotations

import errno
import logging
from collections import OrderedDict
from collections.abc import Callable

from rangeserver import lru
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

PASSED_BY_SECONDS = 60.0
_MAX_OBJECTS = 1024
"""Objects that are remembered; if there are more, some are tried again sooner."""

_OF_THE_FILE = {errno.EFBIG, errno.EOVERFLOW}


class PassedBy:
    """The cache keys of such objects; ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, cache_key: str) -> bool:
        until = self._until.get(cache_key)
        if until is None:
            return False
        if self._clock() < until:
            return True
        del self._until[cache_key]
        return False

    def add(self, cache_key: str, reason: str) -> None:
        """Read an object past the cache from now on."""
        text = "cache: the object %s is read past it for %g s: %s"
        log.warning(text, cache_key, PASSED_BY_SECONDS, reason)
        until = self._clock() + PASSED_BY_SECONDS
        lru.put(self._until, cache_key, until, max_entries=_MAX_OBJECTS)


def is_of_the_file(error: OSError) -> bool:
    """Whether an error is about one file, and the disk is well."""
    return error.errno in _OF_THE_FILE
