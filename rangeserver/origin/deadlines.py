"""Deadlines for answers of the origin, one shared timer for all of one length.

A cancelled request is counted as a timeout if one of its deadlines has passed, and as abandoned by
its client otherwise; a silent origin must not look like impatient clients. So a deadline is an
object that those who send the request can ask, and it knows the one around it.

Nearly every answer comes in time, and most come at once, so a timer for each request would be its
most expensive part. Deadlines of one length pass in the order in which they are set: one timer, for
the oldest, is enough for all of them, and is set again only after it has fired.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from itertools import takewhile
from types import TracebackType
from typing import Any

_RESOLUTION_SECONDS = 0.001
"""uvloop's clock moves in steps of this size: a timer may fire that much too early."""


class Deadlines:
    """Deadlines ``seconds`` after they are set, on the running loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        self.running: dict[Deadline, None] = {}
        """Those that have not passed, oldest first."""
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Drop all deadlines: none passes any more."""
        self.running.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def start(self, deadline: Deadline) -> float:
        """Let a deadline run from now on; the loop's time at which it passes."""
        passes = self.loop.time() + self.seconds
        self.running[deadline] = None
        if self._timer is None:
            self._set_timer(passes)
        return passes

    def _set_timer(self, when: float) -> None:
        # An empty context: the timer would keep that of some request alive.
        self._timer = self.loop.call_at(when, self._expire_passed, context=Context())

    def _expire_passed(self) -> None:
        self._timer = None
        now = self.loop.time() + _RESOLUTION_SECONDS
        for deadline in tuple(takewhile(lambda one: one.passes <= now, self.running)):
            del self.running[deadline]
            deadline.expire()
        oldest = next(iter(self.running), None)
        if oldest is not None:
            self._set_timer(oldest.passes)


class Deadline:
    """Like ``asyncio.timeout``, for a request to the origin; ``within`` is the deadline around it.

    Once it was left it refers to no task any more. Idle connections and fetches for several clients
    keep their deadlines for long, and a task leads to its error, to frames and to open files.
    """

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_task", "_within", "passes")

    def __init__(self, deadlines: Deadlines, within: Deadline | None = None) -> None:
        self._deadlines = deadlines
        self._within = within
        self._expired = False
        self._task: asyncio.Task[Any] | None = None

    def __enter__(self) -> Deadline:
        self._task = task = asyncio.current_task(self._deadlines.loop)
        assert task is not None
        self._cancelling = task.cancelling()
        self.passes = self._deadlines.start(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lift()
        assert self._task is not None
        # A task that somebody else has cancelled as well stays cancelled.
        ours = self._expired and self._task.uncancel() <= self._cancelling
        self._task = None  # not in this frame either: the error below keeps it
        if ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expired(self) -> bool:
        """Whether it has passed, or one around it."""
        return self._expired or (self._within is not None and self._within.expired())

    def expire(self) -> None:
        """Cancel the task, because the time is over."""
        assert self._task is not None
        self._task.cancel()
        self._expired = True

    def lift(self) -> None:
        """Stop the deadline, if it has not passed: what follows may take longer."""
        self._deadlines.running.pop(self, None)
