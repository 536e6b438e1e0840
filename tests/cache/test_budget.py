"""Bytes on their way, shared out in order."""

from __future__ import annotations

import asyncio

import pytest

from rangeserver.cache.budget import Budget
from rangeserver.errors import OriginBusy

LONG = 60.0


def start(budget: Budget, count: int, within: float = LONG) -> asyncio.Task[None]:
    return asyncio.create_task(budget.take(count, within=within))


async def test_reading_ahead_takes_what_is_free() -> None:
    budget = Budget(10)
    assert budget.try_take(6)
    assert not budget.try_take(5)
    assert budget.try_take(4)
    budget.give(10)
    assert (budget.taken, budget.free) == (0, 10)


async def test_those_who_wait_come_first_and_in_order() -> None:
    budget = Budget(10)
    assert budget.try_take(10)
    large, small = start(budget, 8), start(budget, 1)
    await asyncio.sleep(0)
    budget.give(5)
    await asyncio.sleep(0)
    assert (large.done(), small.done(), budget.try_take(1)) == (False, False, False)
    budget.give(5)
    await asyncio.gather(large, small)
    assert budget.taken == 9


async def test_more_than_there_is_comes_alone() -> None:
    budget = Budget(10)
    await budget.take(50, within=LONG)
    other = start(budget, 1)
    await asyncio.sleep(0)
    assert not other.done()
    budget.give(50)
    await other


async def test_waiting_ends() -> None:
    budget = Budget(10)
    assert budget.try_take(10)
    other = start(budget, 2)
    with pytest.raises(OriginBusy, match="no room within 0"):
        await budget.take(8, within=0.01)
    budget.give(2)
    await asyncio.wait_for(other, 5)
    assert budget.taken == 10


async def test_the_first_leaves_and_lets_the_next_in() -> None:
    budget = Budget(10)
    assert budget.try_take(5)
    large, small = start(budget, 8), start(budget, 5)
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait_for(small, 5)
    with pytest.raises(asyncio.CancelledError):
        await large
    assert budget.taken == 10


@pytest.mark.parametrize("first", ["cancel", "give"])
async def test_leaving_in_the_moment_it_would_be_ones_turn(first: str) -> None:
    budget = Budget(10)
    assert budget.try_take(10)
    waiting = start(budget, 4)
    await asyncio.sleep(0)
    if first == "cancel":
        waiting.cancel()
    budget.give(10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (budget.taken, budget.free) == (0, 10)
