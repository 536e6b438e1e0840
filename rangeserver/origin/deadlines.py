"""Deadlines that whoever sends requests to the origin knows of, however far out they were set.

A request that is given up is counted as one that took too long if a deadline ended it, and as that
of a client that left otherwise; silence of the origin must not look like impatience of clients.

Nearly every answer comes in time, most of them at once, so that a timer for each would be the
dearest part. Deadlines of one length pass in the order in which they are set: one timer, for the
oldest, does for all of them, and is set anew once it has passed, however many there were.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from itertools import takewhile
from types import TracebackType
from typing import Any

_RESOLUTION_SECONDS = 0.001
"""The clock of uvloop goes in such steps; a timer that is due to the rounding of one is due."""


class Deadlines:
    """Deadlines that pass so many seconds after they are set, on the loop that runs now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        self.running: dict[Deadline, None] = {}
        """Those that have not passed, oldest first."""
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """None passes any more."""
        self.running.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin(self, deadline: Deadline) -> float:
        """Let one run from now on; when it passes, by the clock of the loop."""
        passes = self.loop.time() + self.seconds
        self.running[deadline] = None
        if self._timer is None:
            self._look_at(passes)
        return passes

    def _look_at(self, when: float) -> None:
        # Not in the context of some request, which would be kept for as long.
        self._timer = self.loop.call_at(when, self._look, context=Context())

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time() + _RESOLUTION_SECONDS
        for deadline in tuple(takewhile(lambda one: one.passes <= now, self.running)):
            del self.running[deadline]
            deadline.expire()
        oldest = next(iter(self.running), None)
        if oldest is not None:
            self._look_at(oldest.passes)


class Deadline:
    """Like ``asyncio.timeout``, but known to the requests that are made inside it: whether it has
    passed, or one around it. Nothing of what it was set for is kept once that was left.

    A connection keeps the context in which it was opened, for as long as it is open. A deadline
    knows its task, a task that failed its error, and the error the frames that it came through:
    an idle connection would keep whatever the request had in hand for which it was opened.
    """

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_outer", "_task", "passes")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._expired = False
        self._task: asyncio.Task[Any] | None = None
        self._outer: Deadline | None = None

    def __enter__(self) -> Deadline:
        self._task = task = asyncio.current_task(self._deadlines.loop)
        assert task is not None
        self._cancelling = task.cancelling()
        self._outer = _deadline.get()
        _deadline.set(self)
        self.passes = self._deadlines.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lift()
        _deadline.set(self._outer)
        task_is_ours = False
        if self._expired:
            assert self._task is not None
            # Whoever else has cancelled the task as well is obeyed.
            task_is_ours = self._task.uncancel() <= self._cancelling
        elif self._outer is not None:
            self._expired = self._outer.expired()
        self._task = self._outer = None
        if task_is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expired(self) -> bool:
        """Whether time has run out."""
        return self._expired or (self._outer is not None and self._outer.expired())

    def expire(self) -> None:
        """Time has run out."""
        assert self._task is not None
        self._task.cancel()
        self._expired = True

    def lift(self) -> None:
        """What had to be done in time is done, if it was; what follows may take longer."""
        self._deadlines.running.pop(self, None)


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def given_up_for_lateness(error: BaseException) -> bool:
    """Whether a request ended in ``error`` because a :class:`Deadline` around it has passed."""
    deadline = _deadline.get()
    return isinstance(error, asyncio.CancelledError) and deadline is not None and deadline.expired()
