"""When a second request is made, and what becomes of the two."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import pytest

from rangeserver.errors import (
    AccessDenied,
    ObjectNotFound,
    OriginError,
    OriginServerError,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.origin.hedging import WINDOW, HedgedRequest, HedgePolicy
from tests.origin.clock import Clock
from tests.support import DEADLINE_SECONDS, eventually

pytestmark = pytest.mark.loops("asyncio", "uvloop")

# --- when


def lateness(percent: float = 2.0) -> tuple[HedgePolicy, Clock]:
    clock = Clock()
    return HedgePolicy(percent, clock), clock


def test_nothing_is_late_before_enough_is_known() -> None:
    late, _ = lateness()
    for _ in range(99):
        late.observe(0.1)
        assert late.delay() is None
    late.observe(0.1)
    assert late.delay() == 0.1


@pytest.mark.parametrize(("percent", "expected"), [(2.0, 0.98), (10.0, 0.90), (50.0, 0.50)])
def test_late_is_what_the_budget_pays_for(percent: float, expected: float) -> None:
    late, _ = lateness(percent)
    seconds = [number / WINDOW for number in range(WINDOW)]
    random.Random(1).shuffle(seconds)
    for each in seconds:
        late.observe(each)
    assert late.delay() == pytest.approx(expected, abs=0.002)


def test_what_was_long_ago_is_forgotten() -> None:
    late, _ = lateness()
    for seconds in (5.0, 0.2):
        for _ in range(WINDOW):
            late.observe(seconds)
    assert late.delay() == 0.2


def test_a_fast_origin_is_not_asked_twice_for_a_hiccup_of_ours() -> None:
    late, _ = lateness()
    for _ in range(WINDOW):
        late.observe(0.0005)
    assert late.delay() == 0.01


def test_at_0_percent_nothing_is_late_and_nothing_affordable() -> None:
    late, _ = lateness(0.0)
    for _ in range(WINDOW):
        assert late.delay() is None
        late.observe(0.1)
    assert not late.afford()


@pytest.mark.parametrize("percent", [0.5, 2.0, 10.0])
def test_second_requests_stay_within_their_share(percent: float) -> None:
    """However they come: never more than the share of all requests so far."""
    late, _ = lateness(percent)
    seconds = 0
    for requests in range(1, 5001):
        late.delay()
        while late.afford():
            seconds += 1
        assert seconds <= requests * percent / 100 + 1e-6
    assert seconds == pytest.approx(5000 * percent / 100, abs=1)


def test_no_more_than_a_little_is_saved_up() -> None:
    late, _ = lateness()
    for _ in range(100_000):
        late.delay()
    assert sum(late.afford() for _ in range(100)) == 20


def test_an_origin_that_throttles_is_spared() -> None:
    late, clock = lateness()
    for _ in range(1000):
        late.delay()
    late.throttled()
    assert not late.afford()
    clock.now += 9.9
    assert not late.afford()
    clock.now += 0.2
    assert late.afford()


# --- what becomes of the two


class Request:
    """A request that ends when the test says so, and holds a place until it fails or is given
    back, as those of the upstream do.
    """

    def __init__(self, places: set[str], name: str) -> None:
        self.name = name
        self.cancelled = False
        self.started = False
        self._places = places
        self._outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def succeed(self) -> None:
        self._outcome.set_result(self.name)

    def fail(self, error: OriginError) -> None:
        self._outcome.set_exception(error)

    async def send(self) -> str:
        self.started = True
        self._places.add(self.name)
        try:
            return await self._outcome
        except BaseException as error:
            self.cancelled = isinstance(error, asyncio.CancelledError)
            self._places.remove(self.name)
            raise


class Course:
    """A race that a test drives. ``places`` are held by whoever is in it."""

    def __init__(self, *, second: bool = True) -> None:
        self.places: set[str] = set()
        self.first = Request(self.places, "first")
        self.second = Request(self.places, "second")
        self.asked_for_second = 0
        self._has_second = second
        self.race: HedgedRequest[str] = HedgedRequest(self._start_second, self.places.remove)
        self.task = asyncio.create_task(self.race.run(self.first.send(), 0.001))

    def _start_second(self) -> Coroutine[None, None, str] | None:
        self.asked_for_second += 1
        return self.second.send() if self._has_second else None

    async def outcome(self) -> str:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.task

    async def both_run(self) -> None:
        await eventually(lambda: self.first.started and self.second.started)


@asynccontextmanager
async def course(*, second: bool = True) -> AsyncIterator[Course]:
    """Fails on leaving if a place or a task is left over."""
    before = asyncio.all_tasks()
    driven = Course(second=second)
    yield driven
    await eventually(driven.task.done)
    if not driven.task.cancelled() and driven.task.exception() is None:
        driven.places.remove(driven.task.result())
    await eventually(lambda: not driven.places)
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_an_early_answer_starts_no_second_request() -> None:
    async with course() as driven:
        driven.first.succeed()
        assert await driven.outcome() == "first"
        await asyncio.sleep(0.01)
        assert driven.asked_for_second == 0
    assert driven.race.won_by_second is None


async def test_an_early_error_starts_no_second_request() -> None:
    async with course() as driven:
        driven.first.fail(OriginServerError("early"))
        with pytest.raises(OriginServerError, match="early"):
            await driven.outcome()
        await asyncio.sleep(0.01)
        assert driven.asked_for_second == 0
    assert driven.race.won_by_second is None


async def test_without_a_second_the_first_is_waited_for() -> None:
    async with course(second=False) as driven:
        await eventually(lambda: driven.asked_for_second == 1)
        driven.first.succeed()
        assert await driven.outcome() == "first"
    assert driven.asked_for_second == 1
    assert driven.race.won_by_second is None


async def test_the_first_wins_and_the_second_is_dropped() -> None:
    async with course() as driven:
        await driven.both_run()
        driven.first.succeed()
        assert await driven.outcome() == "first"
        assert driven.second.cancelled
        assert driven.places == {"first"}
    assert driven.race.won_by_second is False


async def test_the_second_wins_and_the_first_is_dropped() -> None:
    async with course() as driven:
        await driven.both_run()
        driven.second.succeed()
        assert await driven.outcome() == "second"
        assert driven.first.cancelled
        assert driven.places == {"second"}
    assert driven.race.won_by_second is True


@pytest.mark.parametrize("order", ["first", "second"])
async def test_both_answers_at_once_leave_one(order: str) -> None:
    async with course() as driven:
        await driven.both_run()
        one, other = driven.first, driven.second
        if order == "second":
            one, other = other, one
        one.succeed()
        other.succeed()
        winner = await driven.outcome()
        assert driven.places == {winner}


@pytest.mark.parametrize("kind", [OriginUnreachable, OriginTimeout, OriginServerError])
async def test_the_second_is_waited_for_when_the_first_fails(kind: type[OriginError]) -> None:
    async with course() as driven:
        await driven.both_run()
        driven.first.fail(kind("the first"))
        await eventually(lambda: driven.places == {"second"})
        assert not driven.task.done()
        driven.second.succeed()
        assert await driven.outcome() == "second"
    assert driven.race.won_by_second is True


@pytest.mark.parametrize("kind", [ObjectNotFound, AccessDenied, OriginThrottled])
async def test_an_answer_that_says_no_is_not_waited_after(kind: type[OriginError]) -> None:
    async with course() as driven:
        await driven.both_run()
        driven.first.fail(kind("no"))
        with pytest.raises(kind, match="no"):
            await driven.outcome()
        assert driven.second.cancelled
    assert driven.race.won_by_second is False


async def test_a_second_that_fails_changes_nothing() -> None:
    async with course() as driven:
        await driven.both_run()
        driven.second.fail(OriginUnreachable("the second"))
        await eventually(lambda: driven.places == {"first"})
        driven.first.succeed()
        assert await driven.outcome() == "first"
    assert driven.race.won_by_second is False


@pytest.mark.parametrize("order", ["first", "second", "at once"])
async def test_when_both_fail_the_error_is_that_of_the_first(order: str) -> None:
    async with course() as driven:
        await driven.both_run()
        if order == "second":
            driven.second.fail(OriginUnreachable("the second"))
            await eventually(lambda: driven.places == {"first"})
        driven.first.fail(OriginTimeout("the first"))
        if order == "first":
            await eventually(lambda: driven.places == {"second"})
        if order != "second":
            driven.second.fail(OriginUnreachable("the second"))
        with pytest.raises(OriginTimeout, match="the first"):
            await driven.outcome()
    assert driven.race.won_by_second is False


async def test_an_error_of_the_second_that_nobody_wants_is_not_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with course() as driven:
        await driven.both_run()
        driven.first.succeed()
        driven.second.fail(OriginUnreachable("late"))
        assert await driven.outcome() == "first"
    assert caplog.records == []


async def test_leaving_drops_both() -> None:
    async with course() as driven:
        await driven.both_run()
        driven.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driven.outcome()
        assert driven.first.cancelled
        assert driven.second.cancelled
        assert driven.places == set()


async def test_leaving_while_the_second_is_waited_for_drops_it() -> None:
    async with course() as driven:
        await driven.both_run()
        driven.first.fail(OriginTimeout())
        await eventually(lambda: driven.places == {"second"})
        driven.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driven.outcome()
        assert driven.second.cancelled


@pytest.mark.parametrize("answered", ["neither", "first", "second", "both", "failed"])
@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("again", [False, True])
async def test_leaving_at_any_moment_leaves_nothing(answered: str, turns: int, again: bool) -> None:
    """Also twice: a deadline and the end of the client may come together."""
    async with course() as driven:
        await driven.both_run()
        if answered in {"second", "both"}:
            driven.second.succeed()
        if answered in {"first", "both"}:
            driven.first.succeed()
        if answered == "failed":
            driven.first.fail(OriginTimeout())
            driven.second.succeed()
        for _ in range(turns):
            await asyncio.sleep(0)
        driven.task.cancel()
        if again:
            await asyncio.sleep(0)
            driven.task.cancel()


async def test_a_deadline_around_a_race_is_not_taken_for_its_end() -> None:
    places: set[str] = set()
    first, second = Request(places, "first"), Request(places, "second")
    race: HedgedRequest[str] = HedgedRequest(second.send, places.remove)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await race.run(first.send(), 0.001)
    assert (first.cancelled, second.cancelled) == (True, True)
    assert places == set()


async def test_many_races_leave_nothing() -> None:
    dice = random.Random(3)

    async def one() -> None:
        async with course_of_many() as driven:
            await eventually(lambda: driven.first.started)
            for request in dice.sample([driven.first, driven.second], 2):
                await asyncio.sleep(dice.random() * 0.004)
                if request._outcome.done():
                    continue
                if dice.random() < 0.5:
                    request.succeed()
                else:
                    request.fail(OriginServerError())
            if dice.random() < 0.3:
                driven.task.cancel()

    before = asyncio.all_tasks()
    await asyncio.gather(*(one() for _ in range(200)))
    assert asyncio.all_tasks() == before


@asynccontextmanager
async def course_of_many() -> AsyncIterator[Course]:
    """Like :func:`course`, where other tasks come and go."""
    driven = Course()
    yield driven
    await eventually(driven.task.done)
    if not driven.task.cancelled() and driven.task.exception() is None:
        driven.places.remove(driven.task.result())
    await eventually(lambda: not driven.places)
    # An outcome that nobody came to fetch.
    for request in (driven.first, driven.second):
        request._outcome.cancel()
        if request._outcome.done() and not request._outcome.cancelled():
            request._outcome.exception()
