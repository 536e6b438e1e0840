"""Bytes on their way, shared out fairly and in order."""

from __future__ import annotations

import asyncio

import pytest

from rangeserver.cache.budget import Budget
from rangeserver.errors import OriginBusy

LONG = 60.0
A, B, C = "a", "b", "c"


def start(budget: Budget, count: int, client: str = A, within: float = LONG) -> asyncio.Task[None]:
    return asyncio.create_task(budget.take(client, count, within=within))


async def test_reading_ahead_takes_what_is_free() -> None:
    budget = Budget(10)
    assert budget.try_take(A, 6)
    assert not budget.try_take(B, 5)
    assert budget.try_take(B, 4)
    budget.give(A, 6)
    budget.give(B, 4)
    assert (budget.taken, budget.waiting) == (0, 0)


async def test_a_client_alone_may_have_three_quarters() -> None:
    budget = Budget(100)
    taken = 0
    while budget.try_take(A, 1):
        taken += 1
    assert taken == 75


async def test_there_is_something_left_for_one_more() -> None:
    budget = Budget(100)
    while budget.try_take(A, 1):
        pass
    waiting = start(budget, 1)  # and wanting more does not change that
    await asyncio.sleep(0)
    assert not waiting.done()
    while budget.try_take(B, 1):
        pass
    assert budget.try_take(C, 5)
    waiting.cancel()


async def test_shares_become_equal() -> None:
    budget = Budget(70)
    taken = {A: 0, B: 0}
    while budget.try_take(A, 1):
        taken[A] += 1
    for _ in range(100):
        budget.give(A, 1)  # it came, and more is asked for
        taken[A] -= 1
        for client in (B, A):
            taken[client] += budget.try_take(client, 1)
    assert taken == {A: 30, B: 30}


async def test_those_who_wait_come_first_and_in_order() -> None:
    budget = Budget(10)
    await budget.take(A, 10, within=LONG)
    large, small = start(budget, 8), start(budget, 1)
    await asyncio.sleep(0)
    budget.give(A, 5)
    await asyncio.sleep(0)
    assert (large.done(), small.done(), budget.try_take(A, 1)) == (False, False, False)
    budget.give(A, 5)
    await large
    assert (budget.taken, small.done()) == (8, False)
    budget.give(A, 6)
    await small
    assert budget.taken == 3


async def test_whoever_has_least_comes_first() -> None:
    budget = Budget(10)
    await budget.take(A, 6, within=LONG)
    await budget.take(B, 4, within=LONG)
    first, second, third = start(budget, 2, A), start(budget, 2, B), start(budget, 2, C)
    await asyncio.sleep(0)
    budget.give(A, 2)
    await third
    assert not budget.try_take(A, 1)
    budget.give(A, 4)
    await first
    assert not second.done()
    second.cancel()


async def test_more_than_there_is_comes_alone() -> None:
    budget = Budget(10)
    await budget.take(A, 50, within=LONG)
    other = start(budget, 1, B)
    await asyncio.sleep(0)
    assert not other.done()
    budget.give(A, 50)
    await other


async def test_waiting_ends() -> None:
    budget = Budget(10)
    await budget.take(A, 10, within=LONG)
    other = start(budget, 2, B)
    with pytest.raises(OriginBusy, match="no room within 0"):
        await budget.take(B, 8, within=0.01)
    budget.give(A, 2)
    await asyncio.wait_for(other, 5)
    assert (budget.taken, budget.waiting) == (10, 0)


async def test_the_first_leaves_and_lets_the_next_in() -> None:
    budget = Budget(10)
    await budget.take(A, 5, within=LONG)
    large, small = start(budget, 8, B), start(budget, 5, C)
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait_for(small, 5)
    with pytest.raises(asyncio.CancelledError):
        await large
    assert budget.taken == 10


@pytest.mark.parametrize("first", ["cancel", "give"])
async def test_leaving_in_the_moment_it_would_be_ones_turn(first: str) -> None:
    budget = Budget(10)
    await budget.take(A, 10, within=LONG)
    waiting = start(budget, 4, B)
    await asyncio.sleep(0)
    if first == "cancel":
        waiting.cancel()
    budget.give(A, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (budget.taken, budget.waiting) == (0, 0)
