"""Places at the origin: bounded, handed on in order, and never lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from rangeserver.errors import OriginBusy
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.slots import Slots
from tests.support import eventually


def slots(limit: int, wait_seconds: float = 10.0) -> tuple[Slots, OriginMetrics]:
    metrics = OriginMetrics()
    return Slots(limit, wait_seconds, metrics), metrics


async def test_places_are_counted() -> None:
    places, metrics = slots(2)
    assert not places.full
    await places.acquire()
    assert not places.full
    await places.acquire()
    assert places.full
    assert (places.in_use, metrics.in_use, metrics.waiting) == (2, 2, 0)
    places.release()
    assert not places.full
    assert (places.in_use, metrics.in_use) == (1, 1)


async def test_the_wait_is_bounded() -> None:
    places, metrics = slots(1, 0.05)
    await places.acquire()
    began = time.monotonic()
    with pytest.raises(OriginBusy, match="all 1 origin connections are in use") as busy:
        await places.acquire()
    assert 0.04 < time.monotonic() - began < 2
    assert busy.value.headers == {"Retry-After": "1"}
    assert (places.in_use, metrics.in_use, metrics.waiting) == (1, 1, 0)


async def test_who_waits_is_served_in_order_and_before_who_comes_later() -> None:
    places, metrics = slots(1)
    await places.acquire()
    served: list[int] = []

    async def take(name: int) -> None:
        await places.acquire()
        served.append(name)

    waiters = []
    for name in range(3):
        waiters.append(asyncio.create_task(take(name)))
        await eventually(lambda: metrics.waiting == len(waiters))
    for _ in range(3):
        places.release()
        late = asyncio.create_task(take(9))
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        await eventually(lambda: places.in_use == 1)
    await asyncio.gather(*waiters)
    assert served == [0, 1, 2]
    assert (places.in_use, metrics.waiting) == (1, 0)


@pytest.mark.parametrize("handed_over", [False, True])
async def test_who_leaves_takes_no_place_along(handed_over: bool) -> None:
    places, metrics = slots(1)
    await places.acquire()
    waiter = asyncio.create_task(places.acquire())
    await eventually(lambda: metrics.waiting == 1)
    if handed_over:
        places.release()  # promised to the waiter, which has not run since
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    if not handed_over:
        places.release()
    assert (places.in_use, metrics.in_use, metrics.waiting) == (0, 0, 0)
    await places.acquire()
    assert places.full


async def test_many_who_come_and_leave_lose_nothing() -> None:
    places, metrics = slots(3, 0.02)
    most = 0

    async def use(number: int) -> None:
        nonlocal most
        try:
            await places.acquire()
        except OriginBusy:
            return
        try:
            most = max(most, places.in_use)
            await asyncio.sleep(0.001 * (number % 7))
        finally:
            places.release()

    tasks = [asyncio.create_task(use(number)) for number in range(300)]
    for number, task in enumerate(tasks):
        if not number % 3:
            await asyncio.sleep(0)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    assert (places.in_use, metrics.in_use, metrics.waiting) == (0, 0, 0)
    assert not places.full
