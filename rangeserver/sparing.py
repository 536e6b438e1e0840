"""Loggers that limit repeated messages, for what many requests may cause."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from rangeserver import lru

SAME_SECONDS = 60.0
"""The same message is logged once in so many seconds, ..."""

KIND_RECORDS = 10
"""... and so many of one kind, with different arguments."""

_MAX_MESSAGES = 1024
"""The most messages that are remembered."""


class Sparing(logging.Filter):
    """Leaves out messages that were logged just before, or too often. The next message of the kind
    says how many were left out. ``clock`` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: OrderedDict[int, float] = OrderedDict()
        """By hash of a message: when it may be logged again."""
        self._kinds: dict[object, tuple[float, int, int]] = {}
        """Of each kind: when its period began, how many were logged in it, how many left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record; those for debugging always."""
        if record.levelno < logging.INFO:
            return True
        with self._lock:
            return self._is_news(record)

    def _is_news(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        began, logged, left_out = self._kinds.get(record.msg, (now, 0, 0))
        if now - began >= SAME_SECONDS:
            began, logged = now, 0
        text = _message(record)
        digest = hash(text)
        if logged >= KIND_RECORDS or self._logged.get(digest, now) > now:
            self._kinds[record.msg] = (began, logged, left_out + 1)
            return False
        self._kinds[record.msg] = (began, logged + 1, 0)
        lru.put(self._logged, digest, now + SAME_SECONDS, max_entries=_MAX_MESSAGES)
        if left_out:
            record.msg, record.args = f"{text} ({left_out} more like it were left out)", ()
        return True

    def forget(self) -> None:
        """Forget all messages."""
        with self._lock:
            self._logged.clear()
            self._kinds.clear()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # the arguments do not fit, which the writer reports
        return record.msg


def sparing(log: logging.Logger) -> logging.Logger:
    """The same logger, with a :class:`Sparing` filter."""
    if not any(isinstance(each, Sparing) for each in log.filters):
        log.addFilter(Sparing())
    return log
