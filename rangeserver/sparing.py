"""Loggers that do not say the same thing again and again: for what many requests bring about."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from rangeserver import lru

SAME_SECONDS = 60.0
"""A sparing logger says the same thing once in so many seconds, ..."""

KIND_RECORDS = 10
"""... and of one kind, with whatever arguments, so many things."""

_MAX_TOLD = 1024
"""Things that are remembered as told."""


class Sparing(logging.Filter):
    """Leaves out of a log what it has just said, and what it says too often; how much was left out
    is told with the next of its kind. ``clock`` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._told: OrderedDict[int, float] = OrderedDict()
        """When each thing may be said again."""
        self._kinds: dict[object, tuple[float, int, int]] = {}
        """Of each kind: when its time began, how many were said in it, how many left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written; records for debugging are."""
        if record.levelno < logging.INFO:
            return True
        with self._lock:
            return self._is_news(record)

    def _is_news(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        began, said, left_out = self._kinds.get(record.msg, (now, 0, 0))
        if now - began >= SAME_SECONDS:
            began, said = now, 0
        text = _message(record)
        thing = hash(text)
        if said >= KIND_RECORDS or self._told.get(thing, now) > now:
            self._kinds[record.msg] = (began, said, left_out + 1)
            return False
        self._kinds[record.msg] = (began, said + 1, 0)
        lru.put(self._told, thing, now + SAME_SECONDS, max_entries=_MAX_TOLD)
        if left_out:
            record.msg, record.args = f"{text} ({left_out} more like it were left out)", ()
        return True

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self._told.clear()
            self._kinds.clear()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # its arguments do not fit, which the writer says
        return record.msg


def sparing(log: logging.Logger) -> logging.Logger:
    """The same logger, which says the same thing once in a while: for what many requests may bring
    about.
    """
    if not any(isinstance(each, Sparing) for each in log.filters):
        log.addFilter(Sparing())
    return log
