from __future__ import annotations

import asyncio
import time

from rangeserver.process.lag import lag_measured
from rangeserver.process.loop import new_event_loop
from tests.loops import real_time
from tests.support import eventually


def test_a_blocked_loop_is_seen_on_either_loop() -> None:
    for factory in (new_event_loop, asyncio.new_event_loop):
        with real_time(), asyncio.Runner(loop_factory=factory) as runner:
            runner.run(blocked())


async def blocked() -> None:
    seen: list[float] = []
    with lag_measured(seen.append, 0.01):
        await eventually(lambda: len(seen) >= 2)
        before = len(seen)
        time.sleep(0.2)  # noqa: ASYNC251 (this is what is to be seen)
        await eventually(lambda: len(seen) > before)
        assert 0.15 < seen[before] < 2
    assert all(lag >= 0 for lag in seen)
    after = len(seen)
    await asyncio.sleep(0.03)
    assert len(seen) == after
