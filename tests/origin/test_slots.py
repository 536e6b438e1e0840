"""Places at the origin: bounded, handed on fairly, taken back for others, and never lost."""

from __future__ import annotations

import asyncio
import time

import pytest

from rangeserver.errors import OriginBusy, OriginRecalled
from rangeserver.metrics import OriginMetrics
from rangeserver.origin import slots as slots_module
from rangeserver.origin.base import ReadReport
from rangeserver.origin.slots import Slot, Slots
from tests.support import eventually

pytestmark = pytest.mark.loops("asyncio", "uvloop")

SERVER = ReadReport()
"""Of requests that no client waits for."""


def slots(limit: int, wait_seconds: float = 10.0) -> tuple[Slots, OriginMetrics]:
    metrics = OriginMetrics()
    return Slots(limit, wait_seconds, metrics), metrics


async def test_places_are_counted() -> None:
    places, metrics = slots(2)
    assert not places.full
    await places.acquire(SERVER)
    assert not places.full
    slot = await places.acquire(SERVER)
    assert places.full
    assert (places.in_use, metrics.in_use, metrics.waiting) == (2, 2, 0)
    for _ in range(2):  # once is enough
        slot.release()
        assert not places.full
        assert (places.in_use, metrics.in_use) == (1, 1)


async def test_the_wait_is_bounded() -> None:
    places, metrics = slots(1, 0.05)
    await places.acquire(SERVER)
    began = time.monotonic()
    with pytest.raises(OriginBusy, match="all 1 origin connections are in use") as busy:
        await places.acquire(SERVER)
    assert 0.04 < time.monotonic() - began < 2
    assert busy.value.headers == {"Retry-After": "1"}
    assert (places.in_use, metrics.in_use, metrics.waiting) == (1, 1, 0)


async def test_who_waits_is_served_in_order_and_before_who_comes_later() -> None:
    places, metrics = slots(1)
    slot = await places.acquire(SERVER)
    served: list[int] = []

    async def take(name: int) -> None:
        nonlocal slot
        slot = await places.acquire(SERVER)
        served.append(name)

    waiters = []
    for name in range(3):
        waiters.append(asyncio.create_task(take(name)))
        await eventually(lambda: metrics.waiting == len(waiters))
    for number in range(3):
        slot.release()
        late = asyncio.create_task(take(9))
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        await eventually(lambda number=number: len(served) > number)  # type: ignore[misc]
    await asyncio.gather(*waiters)
    assert served == [0, 1, 2]
    assert (places.in_use, metrics.waiting) == (1, 0)


@pytest.mark.parametrize("handed_over", [False, True])
async def test_who_leaves_takes_no_place_along(handed_over: bool) -> None:
    places, metrics = slots(1)
    slot = await places.acquire(SERVER)
    waiter = asyncio.create_task(places.acquire(SERVER))
    await eventually(lambda: metrics.waiting == 1)
    if handed_over:
        slot.release()  # promised to the waiter, which has not run since
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    if not handed_over:
        slot.release()
    assert (places.in_use, metrics.in_use, metrics.waiting) == (0, 0, 0)
    await places.acquire(SERVER)
    assert places.full


async def test_many_who_come_and_leave_lose_nothing() -> None:
    places, metrics = slots(3, 0.02)
    most = 0

    async def use(number: int) -> None:
        nonlocal most
        try:
            slot = await places.acquire(SERVER)
        except OriginBusy:
            return
        try:
            most = max(most, places.in_use)
            await asyncio.sleep(0.001 * (number % 7))
        finally:
            slot.release()

    tasks = [asyncio.create_task(use(number)) for number in range(300)]
    for number, task in enumerate(tasks):
        if not number % 3:
            await asyncio.sleep(0)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    assert (places.in_use, metrics.in_use, metrics.waiting) == (0, 0, 0)
    assert not places.full


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place is idle, or has been used for long enough, as soon as somebody waits."""
    monkeypatch.setattr(slots_module, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(slots_module, "TURN_SECONDS", 0.0)


async def acquire_for(places: Slots, client: str) -> Slot:
    return await places.acquire(ReadReport(client=client))


def body_in(slot: Slot) -> None:
    """Have a body read from there that can be continued elsewhere."""
    slot.on_recall = slot.release


async def test_who_has_least_comes_first() -> None:
    places, metrics = slots(3)
    greedy = [await acquire_for(places, "greedy") for _ in range(3)]
    waiting = [asyncio.create_task(acquire_for(places, "greedy")) for _ in range(3)]
    await eventually(lambda: metrics.waiting == 3)
    late = [asyncio.create_task(acquire_for(places, "late")) for _ in range(3)]
    await eventually(lambda: metrics.waiting == 6)
    for slot in greedy:
        slot.release()
    # With one each, whoever waits for longer; and then the two have as equal shares as can be.
    await eventually(lambda: metrics.waiting == 3)
    assert [task.done() for task in waiting] == [True, False, False]
    assert [task.done() for task in late] == [True, True, False]
    for task in (*waiting, *late):
        task.cancel()
    await asyncio.gather(*waiting, *late, return_exceptions=True)


async def test_a_body_that_has_begun_comes_before_a_request_and_waits_longer() -> None:
    places, metrics = slots(1, 0.05)
    slot = await places.acquire(SERVER)
    new = asyncio.create_task(places.acquire(SERVER))
    await eventually(lambda: metrics.waiting == 1)
    begun = asyncio.create_task(places.acquire(ReadReport(begun=True)))
    with pytest.raises(OriginBusy):
        await new
    another = asyncio.create_task(places.acquire(SERVER))
    await eventually(lambda: metrics.waiting == 2)
    slot.release()
    (await begun).release()
    (await another).release()
    assert (places.in_use, metrics.waiting) == (0, 0)


@pytest.mark.usefixtures("no_patience")
async def test_an_idle_place_is_taken_back_for_one_who_waits() -> None:
    places, metrics = slots(1)
    slot = await places.acquire(SERVER)
    body_in(slot)
    with slot.reading():
        pass
    other = await places.acquire(SERVER)
    assert (places.in_use, metrics.waiting, slot.recalled, other.recalled) == (1, 0, True, False)
    slot.release()  # it has none any more
    assert places.in_use == 1
    with pytest.raises(OriginRecalled), slot.reading():
        raise AssertionError


@pytest.mark.usefixtures("no_patience")
async def test_reading_from_a_place_ends_when_it_is_taken_back() -> None:
    places, _ = slots(2)
    taken = [await acquire_for(places, "greedy") for _ in range(2)]
    for slot in taken:
        body_in(slot)
    with pytest.raises(OriginRecalled), taken[0].reading():
        await acquire_for(places, "other")
    with taken[1].reading():
        pass


async def test_no_place_is_taken_back_before_its_turn_is_over() -> None:
    places, metrics = slots(2, 0.05)
    taken = [await acquire_for(places, "greedy") for _ in range(2)]
    for slot in taken:
        body_in(slot)
    with taken[0].reading():
        pass
    with pytest.raises(OriginBusy):
        await acquire_for(places, "other")
    assert (places.in_use, metrics.waiting) == (2, 0)
    assert not any(slot.recalled for slot in taken)


@pytest.mark.usefixtures("no_patience")
async def test_a_request_without_an_answer_keeps_its_place() -> None:
    places, _ = slots(2, 0.05)
    taken = [await acquire_for(places, "greedy") for _ in range(2)]
    with pytest.raises(OriginBusy):
        await acquire_for(places, "other")
    assert not any(slot.recalled for slot in taken)
