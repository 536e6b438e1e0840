"""A loop whose clock goes on when a test says so."""

from __future__ import annotations

import asyncio

STEP_SECONDS = 0.25
"""A binary fraction: the clock shows no other times than sums of its steps."""


class SteppedLoop(asyncio.SelectorEventLoop):
    """Its time stands still but for :func:`passed`."""

    now = 0.0

    def time(self) -> float:
        return self.now

    async def step(self) -> None:
        self.now += STEP_SECONDS
        for _ in range(3):  # a timer that is due runs in the next turn
            await asyncio.sleep(0)


async def passed(seconds: float) -> None:
    """Let so much time go by, and have done in it what is due."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    steps = seconds / STEP_SECONDS
    assert steps.is_integer()
    for _ in range(int(steps)):
        await loop.step()
