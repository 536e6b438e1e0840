"""Deadlines that requests to the origin know of."""

from __future__ import annotations

import asyncio

import pytest

from rangeserver.origin.deadlines import answered_within, given_up_for_lateness


async def test_lateness_is_known_to_those_that_outlast_the_deadline() -> None:
    waiting = asyncio.Event()

    async def late() -> bool:
        await waiting.wait()
        return given_up_for_lateness(asyncio.CancelledError())

    for seconds, expired in ((0.01, True), (10.0, False)):
        waiting.clear()
        task: asyncio.Task[bool] | None = None
        try:
            async with answered_within(seconds):
                task = asyncio.create_task(late())
                if expired:
                    await asyncio.Event().wait()
        except TimeoutError:
            assert expired
        waiting.set()
        assert task is not None
        assert await task is expired


def is_late() -> bool:
    return given_up_for_lateness(asyncio.CancelledError())


async def waiting(seconds: float, told: list[bool]) -> None:
    """Wait inside a deadline, and tell whether it was for lateness that this was given up."""
    async with answered_within(seconds):
        try:
            await asyncio.Event().wait()
        finally:
            told.append(is_late())


async def test_lateness_by_an_outer_deadline_is_known_inside_another() -> None:
    told: list[bool] = []
    for outer, inner in ((0.01, 10.0), (10.0, 0.01), (0.01, 0.01)):
        with pytest.raises(TimeoutError):
            async with answered_within(outer):
                await waiting(inner, told)
    assert told == [True, True, True]


async def test_who_leaves_is_not_late() -> None:
    told: list[bool] = []
    task = asyncio.create_task(waiting(10.0, told))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == [False]


async def test_a_deadline_that_was_lifted_ends_nothing() -> None:
    async with answered_within(0.01) as deadline:
        deadline.lift()
        await asyncio.sleep(0.05)
        assert not deadline.expired()
        assert not is_late()
