"""Waiting for other processes, which cannot notify us: one poll for all waiters.

A thread evaluates all conditions in one call, so that the event loop only has to wake the waiters.
The pause between two polls grows with the duration of a poll: however many wait, polling takes a
fixed share of one core at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from rangeserver.cache.disk import Disk

Condition = Callable[[], bool]
"""Called in a thread; must not block for long."""

MIN_PAUSE_SECONDS = 0.01
MAX_PAUSE_SECONDS = 1.0
_PAUSE_FACTOR = 50
"""The pause after a poll is this many times its duration."""


class Poller:
    """The conditions that this process waits for."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._waiting: dict[asyncio.Future[None], Condition] = {}
        self._task: asyncio.Task[None] | None = None

    async def until(self, condition: Condition, *, within: float) -> bool:
        """Wait until ``condition`` holds; returns whether it does within so many seconds. Raises
        what the condition raises, and :class:`DiskStuck`.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting[waiter] = condition
        if self._task is None:
            self._task = loop.create_task(self._poll())
        try:
            async with asyncio.timeout(within):
                await waiter
        except TimeoutError:
            return False
        finally:
            del self._waiting[waiter]
            del waiter  # or an error that it holds holds this frame, and those above
            if not self._waiting and self._task is not None:
                self._task.cancel()
                self._task = None
        return True

    async def _poll(self) -> None:
        pause = MIN_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = pause_after(await self._poll_once())

    async def _poll_once(self) -> float:
        """Wake waiters whose conditions hold; returns the seconds that it took in the thread."""
        waiting = tuple(self._waiting.items())
        found: Sequence[bool | Exception]
        try:
            found, took = await self._disk.run(_evaluate, [each for _, each in waiting])
        except OSError as error:
            found, took = [error] * len(waiting), 0.0
        for (waiter, _), result in zip(waiting, found, strict=True):
            if waiter.done():
                continue
            if isinstance(result, Exception):
                waiter.set_exception(result)
            elif result:
                waiter.set_result(None)
        return took


def pause_after(seconds: float) -> float:
    """How long to pause after a poll that took so many seconds."""
    return min(max(seconds * _PAUSE_FACTOR, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)


def _evaluate(conditions: Sequence[Condition]) -> tuple[list[bool | Exception], float]:
    """What each returned or raised, and how long all took, in seconds."""
    began = time.monotonic()
    found = [_result(condition) for condition in conditions]
    return found, time.monotonic() - began


def _result(condition: Condition) -> bool | Exception:
    try:
        return condition()
    except Exception as error:  # noqa: BLE001 (raised where it is waited for)
        return error
