"""Whether others are answered while a key is refused."""

from __future__ import annotations

import asyncio

import pytest

from rangeserver.origin.comparison import HOLDS_SECONDS, Comparison
from tests.origin.clock import Clock


class Another:
    """A key that is asked for to find out."""

    def __init__(self) -> None:
        self.answered = True
        self.asked = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> bool:
        self.asked += 1
        await self.go_on.wait()
        return self.answered


@pytest.mark.parametrize("answered", [True, False])
async def test_one_answer_counts_for_a_moment(answered: bool) -> None:
    another, clock = Another(), Clock()
    another.answered = answered
    another.go_on.set()
    comparison = Comparison(clock)
    for _ in range(3):
        assert await comparison.others_are_answered(another) is answered
    clock.now += HOLDS_SECONDS - 0.01
    assert await comparison.others_are_answered(another) is answered
    assert another.asked == 1
    another.answered = not answered
    clock.now += 0.01
    assert await comparison.others_are_answered(another) is not answered
    assert another.asked == 2


async def test_many_ask_once() -> None:
    another = Another()
    comparison = Comparison(Clock())
    tasks = [asyncio.create_task(comparison.others_are_answered(another)) for _ in range(10)]
    for _ in range(5):
        await asyncio.sleep(0)
    another.go_on.set()
    assert await asyncio.gather(*tasks) == [True] * 10
    assert another.asked == 1


async def test_one_who_leaves_is_followed_by_the_next() -> None:
    another = Another()
    comparison = Comparison(Clock())
    first, second = (asyncio.create_task(comparison.others_are_answered(another)) for _ in range(2))
    for _ in range(5):
        await asyncio.sleep(0)
    first.cancel()
    another.go_on.set()
    assert await second
    assert another.asked == 2
