"""Hedged requests: if a first byte is later than nearly all before it, the request is sent twice.

The second goes over a new connection, which S3 may give to another machine. The first answer is
used and the other request dropped (Dean and Barroso, "The Tail at Scale", 2013). The setting is the
share of requests that may be sent twice; from it follows which are late: with two in a hundred,
those later than 98 of a hundred.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from rangeserver.errors import (
    OriginError,
    OriginServerError,
    OriginTimeout,
    OriginUnreachable,
)

T = TypeVar("T")

WINDOW = 1000
"""First bytes that are remembered. The 98th percentile of fewer varies too much by chance."""

_NEEDED = 100
"""Until so many first bytes are known, no request counts as late."""

_REFRESHED_EVERY = 50

_MIN_DELAY_SECONDS = 0.01
"""Below this our own event loop is the likelier cause, and a second request makes it worse."""

_MAX_CREDIT = 20.0
"""The most second requests that are saved up: the savings of a quiet night would else be spent in
one bad second."""

_QUIET_SECONDS = 10.0
"""No hedging for so long after the origin has throttled a request."""

# After these errors of the first request the second may still succeed. Others are answers, which
# the second would only repeat.
_MAY_SUCCEED_ELSEWHERE = (OriginServerError, OriginTimeout, OriginUnreachable)


class HedgePolicy:
    """When a request is late, and whether it may be sent twice; ``clock`` is monotonic."""

    def __init__(self, percent: float, clock: Callable[[], float]) -> None:
        self._share = percent / 100
        self._clock = clock
        self._seen: deque[float] = deque(maxlen=WINDOW)
        self._since_refresh = 0
        self._late_after: float | None = None
        self._credit = 0.0
        self._quiet_until = 0.0

    def delay(self) -> float | None:
        """A request is sent: the seconds after which it is late, ``None`` if it never is."""
        self._credit = min(self._credit + self._share, _MAX_CREDIT)
        return self._late_after if self._share else None

    def observe(self, seconds: float) -> None:
        """A first byte came after so many seconds."""
        self._seen.append(seconds)
        self._since_refresh += 1
        if self._since_refresh >= _REFRESHED_EVERY and len(self._seen) >= _NEEDED:
            self._since_refresh = 0
            ordered = sorted(self._seen)
            late = ordered[min(int(len(ordered) * (1 - self._share)), len(ordered) - 1)]
            self._late_after = max(late, _MIN_DELAY_SECONDS)

    def afford(self) -> bool:
        """Pay for a second request; ``False`` if it is not affordable, or the origin throttles."""
        if self._credit < 1 or self._clock() < self._quiet_until:
            return False
        self._credit -= 1
        return True

    def throttled(self) -> None:
        """The origin has asked for fewer requests."""
        self._quiet_until = self._clock() + _QUIET_SECONDS


class HedgedRequest(Generic[T]):
    """One request, and perhaps a second. Each answer has to be closed.

    ``second`` makes the second request, or returns ``None`` if there shall be none. ``discard``
    closes an answer that came too late to be used.
    """

    def __init__(
        self, second: Callable[[], Awaitable[T] | None], discard: Callable[[T], None]
    ) -> None:
        self._second = second
        self._discard = discard
        self._task: asyncio.Task[T] | None = None
        self._cut: asyncio.Timeout | None = None
        self.won_by_second: bool | None = None
        """``None`` if there was no second request; ``False`` if it was not used."""

    async def run(self, first: Awaitable[T], delay: float) -> T:
        """The first answer; raises the error of the first request if neither is answered.

        When this returns or raises, no second request is left, and no answer to it.
        """
        timer = asyncio.get_running_loop().call_later(delay, self._start)
        try:
            answer = await self._first_good(first)
        except BaseException:
            await self._drop_second()
            raise
        finally:
            self._cut = None
            timer.cancel()
        try:
            await self._drop_second()
        except BaseException:  # the caller was cancelled just now
            self._discard(answer)
            raise
        return answer

    async def _first_good(self, first: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(None) as self._cut:
                return await first
        except TimeoutError:
            if not self._second_is_good():
                raise
        except OriginError as error:
            self._cut = None
            if self._task is None or not isinstance(error, _MAY_SUCCEED_ELSEWHERE):
                raise
            await asyncio.wait({self._task})
            if not self._second_is_good():
                raise
        return self._use_second()

    def _start(self) -> None:
        started = self._second()
        if started is not None:
            self.won_by_second = False
            self._task = asyncio.ensure_future(started)
            self._task.add_done_callback(self._second_done)

    def _second_done(self, _: asyncio.Task[T]) -> None:
        if self._cut is not None and self._second_is_good():
            self._cut.reschedule(asyncio.get_running_loop().time())

    def _second_is_good(self) -> bool:
        task = self._task
        return (
            task is not None and task.done() and not task.cancelled() and task.exception() is None
        )

    def _use_second(self) -> T:
        assert self._task is not None
        answer = self._task.result()
        self._task = None
        self.won_by_second = True
        return answer

    async def _drop_second(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        # Before waiting for it: the wait itself may be cancelled.
        task.add_done_callback(self._discard_late)
        task.cancel()
        await asyncio.wait({task})

    def _discard_late(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._discard(task.result())
