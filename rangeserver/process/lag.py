"""How late the event loop is: what blocks it delays every viewer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERVAL_SECONDS = 0.5


@contextmanager
def lag_measured(observe: Callable[[float], None], interval: float | None = None) -> Iterator[None]:
    """Tell ``observe`` every ``interval`` seconds how late a timer ran, until left."""
    interval = INTERVAL_SECONDS if interval is None else interval
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def arm() -> None:
        nonlocal timer
        # Not the loop's own clock: uvloop's stands still while a callback runs.
        timer = loop.call_later(interval, measure, time.monotonic() + interval)

    def measure(due: float) -> None:
        observe(max(time.monotonic() - due, 0.0))
        arm()

    arm()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
