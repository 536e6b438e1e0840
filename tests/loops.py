"""The loops that tests run in, whose clock counts no time in which they were kept from running.

On a shared machine a process may stand still for longer than any deadline that one would like to
wait for in a test, and then a deadline passes before what it waits for had its turn. The clock of
these loops goes with real time where they wait and there is nothing to be done. A turn in which
there is takes :data:`BUSY_SECONDS` at most, however long it really took. So a deadline passes only
when much less was left to do than could be done in the time, whoever else uses the machine. This
clock may be slower than the real one, and is never faster.

``time.monotonic`` is this clock as well, from the import of this module on: what is measured with
it, in the server or in a test, is judged by the same one. So it is imported before the server is.
``time.perf_counter`` stays real, and so do other processes.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple
from unittest.mock import patch

import uvloop

BUSY_SECONDS = 0.001
IDLE_SECONDS = 0.01
"""What a turn takes at most in which nothing was to be done."""

HUNG_SECONDS = 1.0

T = TypeVar("T")
_Ts = TypeVarTuple("_Ts")
_real = time.monotonic


class FairClock:
    """Monotonic seconds. While there is no loop of this module it is the real clock, but for an
    offset.
    """

    def __init__(self) -> None:
        self._loops = 0
        self._most = math.inf
        self._shown = (_real(), _real())
        """What it showed, and when; one attribute, for there are threads."""

    def __call__(self) -> float:
        return self._after(self._most)

    def turn(self, idle: float = 0.0) -> None:
        """A turn of a loop is over, which had nothing to do and waited for so long."""
        self._shown = (self._after(self._most + idle), _real())

    def _after(self, most: float) -> float:
        shown, at = self._shown
        passed = _real() - at
        # Never quite still: there are those who wait for it to go on without giving up their turn.
        return shown + (passed if passed <= most else most + (passed - most) / 1000)

    def _go(self, most: float) -> None:
        self.turn()
        self._most = most

    def begin(self) -> None:
        """There is another loop."""
        self._loops += 1
        self._go(BUSY_SECONDS)

    def end(self) -> None:
        """There is one less."""
        self._loops -= 1
        self._go(BUSY_SECONDS if self._loops else math.inf)


CLOCK = FairClock()
time.monotonic = CLOCK


@contextmanager
def real_time() -> Iterator[None]:
    """For what measures real time by its nature."""
    time.monotonic = _real
    try:
        yield
    finally:
        time.monotonic = CLOCK


@contextmanager
def kernel_comes_last() -> Iterator[None]:
    """The kernel has a clock of its own: its deadline for a client is put far behind the server's,
    which is to come first.
    """
    with patch("rangeserver.process.server._USER_TIMEOUT_MARGIN", 100.0):
        yield


class _Jobs:
    """What a loop has given to threads: while that is being done there is something to be done.
    What has not come back after :data:`HUNG_SECONDS` hangs.
    """

    def __init__(self) -> None:
        self._begun: dict[asyncio.Future[Any], float] = {}

    def begin(self, job: asyncio.Future[T]) -> asyncio.Future[T]:
        self._begun[job] = _real()
        job.add_done_callback(self._begun.pop)
        return job

    def are_done(self) -> bool:
        latest = next(reversed(self._begun.values()), -math.inf)
        return latest < _real() - HUNG_SECONDS


class _Selector(selectors.DefaultSelector):
    def __init__(self, jobs: _Jobs) -> None:
        super().__init__()
        self._jobs = jobs

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        wait = IDLE_SECONDS if timeout is None else max(0.0, min(timeout, IDLE_SECONDS))
        ready = super().select(wait)
        CLOCK.turn(wait if not ready and self._jobs.are_done() else 0.0)
        return ready


class FairLoop(asyncio.SelectorEventLoop):
    """asyncio's own."""

    def __init__(self) -> None:
        self._jobs = _Jobs()
        super().__init__(_Selector(self._jobs))
        CLOCK.begin()

    def time(self) -> float:
        return CLOCK()

    def run_in_executor(
        self, executor: Any, func: Callable[[*_Ts], T], *args: *_Ts
    ) -> asyncio.Future[T]:
        return self._jobs.begin(super().run_in_executor(executor, func, *args))

    def close(self) -> None:
        if not self.is_closed():
            CLOCK.end()
        super().close()


class RealLoop(asyncio.SelectorEventLoop):
    """For the same, when it is asynchronous."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._stack.enter_context(real_time())
        super().__init__()

    def close(self) -> None:
        super().close()
        self._stack.close()


class FairUvloop(uvloop.Loop):
    """That of production. Its timers are kept here, for its clock cannot be another, and a beat
    tells whether something was to be done since the last one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._jobs = _Jobs()
        self._timers: list[asyncio.TimerHandle] = []
        self._busy = True
        self._beat: asyncio.TimerHandle | None = None
        self._beat_at = math.inf
        self._wait = 0.0
        CLOCK.begin()
        self._arm(BUSY_SECONDS)

    def time(self) -> float:
        return CLOCK()

    def run_in_executor(  # type: ignore[override]  # uvloop says it were a coroutine
        self, executor: Any, func: Callable[[*_Ts], T], *args: *_Ts
    ) -> asyncio.Future[T]:
        job: Any = super().run_in_executor(executor, func, *args)
        return self._jobs.begin(job)

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._busy = True
        return super().call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if self.is_closed():
            msg = "Event loop is closed"
            raise RuntimeError(msg)
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        insort(self._timers, handle, key=asyncio.TimerHandle.when)
        if when < self._beat_at:
            self._arm(BUSY_SECONDS)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """What a handle calls; it is kept no longer, as in uvloop."""
        place = bisect_left(self._timers, handle.when(), key=asyncio.TimerHandle.when)
        while place < len(self._timers) and self._timers[place].when() == handle.when():
            if self._timers[place] is handle:
                del self._timers[place]
                return
            place += 1

    def _arm(self, within: float) -> None:
        """Let the next beat come then, or with the first timer."""
        if self._beat is not None:
            self._beat.cancel()
        now = self.time()
        left = self._timers[0].when() - now if self._timers else math.inf
        wait = min(max(left, BUSY_SECONDS), within)
        self._beat_at, self._wait = now + wait, wait
        self._beat = super().call_later(wait, self._turn)

    def _turn(self) -> None:
        self._busy = self._busy or not self._jobs.are_done()
        CLOCK.turn(0.0 if self._busy else self._wait)
        now = self.time()
        self._beat, within = None, BUSY_SECONDS if self._busy else IDLE_SECONDS
        self._busy = False
        while self._timers and self._timers[0].when() <= now:
            self._timers.pop(0)._run()
            within = BUSY_SECONDS
        self._arm(within)

    def close(self) -> None:
        if not self.is_closed():
            CLOCK.end()
            if self._beat is not None:
                self._beat.cancel()
            self._timers.clear()
        super().close()
