"""Waiting for other processes, which cannot notify: one poll for all who wait.

A thread evaluates every condition in one call, so that the event loop has nothing to do for a
waiter but to wake it. The pause between two polls grows with what a poll costs: however many
wait, polling takes a fixed share of one core at most.
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
"""A poll takes at most this part of the time."""


class Poller:
    """The conditions that this process waits for."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._waiting: dict[asyncio.Future[None], Condition] = {}
        self._task: asyncio.Task[None] | None = None

    async def until(self, condition: Condition, *, within: float) -> bool:
        """Wait until ``condition`` holds; whether it does within so many seconds. Raises what it
        raises, and ``OSError`` if the disk does not answer.
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
        """Wake those whose conditions hold; how many seconds that took in the thread."""
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
    """Which of them hold, or what each raised; and how long that took."""
    began = time.monotonic()
    found = [_result(condition) for condition in conditions]
    return found, time.monotonic() - began


def _result(condition: Condition) -> bool | Exception:
    try:
        return condition()
    except Exception as error:  # noqa: BLE001 (raised where it is waited for)
        return error
