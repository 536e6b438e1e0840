"""The threads that wait for the disk, so that the event loop never does.

No caller waits for ever: when a hanging disk has blocked all threads, calls fail with
:class:`DiskStuck`, and the cache is bypassed.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from rangeserver.cache.errors import DiskStuck

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
"""Calls to the disk at once. They only wait for it; more calls would queue in the disk."""

STUCK_SECONDS = 0.5
"""The disk is stuck while every thread has been waiting for longer than this."""

CALL_SECONDS = 10.0
"""How long one call is waited for while others end: a part of the disk may be bad."""


class Disk:
    """A thread pool of its own, so that a slow disk cannot delay other pools, such as DNS."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="cache")
        self._began: dict[int, float] = {}
        """When each thread in a call began it."""
        self._waiting: dict[asyncio.Future[Any], float] = {}
        """Callers that wait, and until when."""
        self._timer: asyncio.TimerHandle | None = None
        # A descriptor's last owner may be dropped anywhere, in the midst of a call that holds a
        # lock as well. Putting into this queue is safe even there, unlike into a pool's.
        self._closing: SimpleQueue[int | None] = SimpleQueue()
        self._over = False
        self._closer = threading.Thread(target=self._close_all, name="cache-close", daemon=True)
        self._closer.start()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a blocking call in a thread; returns or raises what it does, or raises
        :class:`DiskStuck`. The call itself continues when its caller gives up or is cancelled.
        """
        return await self._run(functools.partial(call, *args, **kwargs), CALL_SECONDS, None)

    async def run_long(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for a call that may take minutes."""
        return await self._run(functools.partial(call, *args, **kwargs), math.inf, None)

    async def run_or(
        self, late: Callable[[T], object], call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for a result that must not be lost: ``late`` is called with it if the caller
        does not wait any more.
        """
        return await self._run(functools.partial(call, *args, **kwargs), CALL_SECONDS, late)

    def begin(self, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make a call without waiting for it; it must not raise."""
        self._threads.submit(self._timed, functools.partial(call, *args, **kwargs))

    def is_stuck(self) -> bool:
        """Whether no thread is free, and none has been for a while."""
        began = list(self._began.values())
        return len(began) >= THREADS and time.monotonic() - max(began) > STUCK_SECONDS

    def close_later(self, descriptor: int) -> None:
        """Close a descriptor in a thread: it takes long if a deleted file goes with it."""
        if self._over:
            os.close(descriptor)
        else:
            self._closing.put(descriptor)

    def shut_down(self) -> None:
        """End once all calls have ended; does not wait for them."""
        if self._timer is not None:
            self._timer.cancel()
        self._threads.shutdown(wait=False)
        self._over = True
        self._closing.put(None)

    async def _run(
        self, call: Callable[[], T], seconds: float, late: Callable[[T], object] | None
    ) -> T:
        if self.is_stuck():
            raise DiskStuck
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = loop.create_future()
        job = loop.run_in_executor(self._threads, self._timed, call)
        job.add_done_callback(functools.partial(_settle, waiter, late))
        self._waiting[waiter] = time.monotonic() + seconds
        if self._timer is None:
            self._timer = loop.call_later(STUCK_SECONDS / 2, self._look)
        try:
            return await waiter
        finally:
            del self._waiting[waiter]
            if late is None:
                job.cancel()  # need not be begun any more
            del waiter, job  # or they and an error that they hold hold this frame, and those above

    def _timed(self, call: Callable[[], T]) -> T:
        thread = threading.get_ident()
        self._began[thread] = time.monotonic()
        try:
            return call()
        finally:
            del self._began[thread]

    def _look(self) -> None:
        """Fail the calls that have been waited for too long."""
        stuck, now = self.is_stuck(), time.monotonic()
        for waiter, until in self._waiting.items():
            if (stuck or now > until) and not waiter.done():
                waiter.set_exception(DiskStuck())
        self._timer = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(STUCK_SECONDS / 2, self._look)

    def _close_all(self) -> None:
        while True:
            descriptor = self._closing.get()
            if descriptor is None:
                break
            os.close(descriptor)


def _settle(
    waiter: asyncio.Future[T], late: Callable[[T], object] | None, job: asyncio.Future[T]
) -> None:
    if job.cancelled():
        return
    error = job.exception()
    if waiter.done():
        if error is None and late is not None:
            late(job.result())
    elif error is not None:
        waiter.set_exception(error)
    else:
        waiter.set_result(job.result())
