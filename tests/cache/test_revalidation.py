"""Revalidations: one at a time for an object, and none is waited for that is late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from rangeserver.cache.revalidation import Revalidations
from rangeserver.errors import (
    ObjectNotFound,
    OriginError,
    OriginServerError,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.support import eventually

KEY = ObjectKey("a")
FACTS = ObjectFacts(KEY, 10, '"v1"')
PATIENT = 600.0


@dataclass(slots=True)
class Course:
    """What asks, and what it is answered once it may be."""

    revalidations: Revalidations
    tasks: set[asyncio.Task[object]]
    asked: int = 0
    error: OriginError | None = None
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def _ask(self) -> ObjectFacts:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return FACTS

    async def facts(self) -> ObjectFacts:
        return await self.revalidations.facts(KEY, self._ask)

    def patience(self, seconds: float) -> None:
        self.revalidations._patience = seconds

    async def is_late(self) -> None:
        """Ask, and be told so."""
        with pytest.raises(OriginTimeout):
            await self.facts()

    async def was_late(self) -> None:
        """One check is late, and nobody will wait for another."""
        self.patience(0.0)
        await self.is_late()
        self.patience(PATIENT)


@pytest.fixture
async def course() -> AsyncIterator[Course]:
    tasks: set[asyncio.Task[object]] = set()
    driven = Course(Revalidations(tasks, PATIENT), tasks)
    yield driven
    driven.answers.set()
    await eventually(lambda: not tasks)
    assert driven.revalidations._running == {}


async def test_an_answer_is_waited_for(course: Course) -> None:
    asking = asyncio.create_task(course.facts())
    await eventually(lambda: course.asked == 1)
    course.answers.set()
    assert await asking == FACTS


async def test_one_that_is_late_goes_on_and_nobody_waits_for_it_again(course: Course) -> None:
    await course.was_late()
    for _ in range(5):
        await course.is_late()
    assert course.asked == 1


async def test_its_answer_ends_that(course: Course) -> None:
    await course.was_late()
    course.answers.set()
    await eventually(lambda: not course.tasks)
    assert await course.facts() == FACTS
    assert course.asked == 2


@pytest.mark.parametrize("error", [ObjectNotFound("gone"), OriginServerError("500")])
async def test_so_does_an_answer_that_is_an_error(course: Course, error: OriginError) -> None:
    await course.was_late()
    course.error = error
    course.answers.set()
    await eventually(lambda: not course.tasks)
    with pytest.raises(type(error)):
        await course.facts()


@pytest.mark.parametrize("error", [OriginTimeout("late"), OriginUnreachable("refused")])
async def test_an_end_without_an_answer_does_not(course: Course, error: OriginError) -> None:
    await course.was_late()
    course.error = error
    course.answers.set()
    await eventually(lambda: not course.tasks)
    course.answers.clear()
    await course.is_late()
    await eventually(lambda: course.asked == 2)


async def test_what_fails_at_once_is_asked_each_time(course: Course) -> None:
    """It costs nobody time, and tells at once when it is over."""
    course.answers.set()
    course.error = OriginUnreachable("refused")
    for number in range(3):
        with pytest.raises(OriginUnreachable):
            await course.facts()
        assert course.asked == number + 1
    course.error = None
    assert await course.facts() == FACTS


async def test_one_who_leaves_in_time_takes_the_check_along(course: Course) -> None:
    asking = asyncio.create_task(course.facts())
    await eventually(lambda: course.asked == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await eventually(lambda: not course.tasks)


async def test_an_error_of_ours_is_raised(course: Course) -> None:
    course.error = ZeroDivisionError()  # type: ignore[assignment]
    course.answers.set()
    with pytest.raises(ZeroDivisionError):
        await course.facts()
