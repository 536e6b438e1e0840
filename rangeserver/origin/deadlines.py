"""Deadlines that whoever sends requests to the origin knows of, however far out they were set.

A request that is given up is counted as one that took too long if a deadline ended it, and as that
of a client that left otherwise; silence of the origin must not look like impatience of clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar


class Deadline:
    """Whether an ``asyncio.timeout`` has passed, or one around it; nothing of either is kept once
    it was left.

    A connection keeps the context in which it was opened, for as long as it is open. A timeout
    knows its task, a task that failed its error, and the error the frames that it came through:
    an idle connection would keep whatever the request had in hand for which it was opened.
    """

    __slots__ = ("_expired", "_outer", "_timeout")

    def __init__(self, timeout: asyncio.Timeout, outer: Deadline | None) -> None:
        self._timeout: asyncio.Timeout | None = timeout
        self._outer = outer
        self._expired = False

    def expired(self) -> bool:
        """Whether time has run out."""
        if self._timeout is None:
            return self._expired
        return self._timeout.expired() or (self._outer is not None and self._outer.expired())

    def lift(self) -> None:
        """What had to be done in time is done; what follows may take longer."""
        if self._timeout is not None:
            self._timeout.reschedule(None)
            self.leave()

    def leave(self) -> None:
        """It is over."""
        self._expired = self.expired()
        self._timeout = self._outer = None


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@asynccontextmanager
async def answered_within(seconds: float | None) -> AsyncIterator[Deadline]:
    """``asyncio.timeout``, known to the requests that are made inside it."""
    async with asyncio.timeout(seconds) as timeout:
        deadline = Deadline(timeout, _deadline.get())
        token = _deadline.set(deadline)
        try:
            yield deadline
        finally:
            _deadline.reset(token)
            deadline.leave()


def given_up_for_lateness(error: BaseException) -> bool:
    """Whether a request ended in ``error`` because an :func:`answered_within` around it ended."""
    deadline = _deadline.get()
    return isinstance(error, asyncio.CancelledError) and deadline is not None and deadline.expired()
