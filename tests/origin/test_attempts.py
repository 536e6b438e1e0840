"""The attempts of one response, counted whatever it is read through."""

from __future__ import annotations

import asyncio
import math

import pytest

from rangeserver.errors import (
    AccessDenied,
    ObjectChanged,
    OriginBodyError,
    OriginBusy,
    OriginError,
    OriginProtocolError,
    OriginServerError,
    OriginSuspended,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.metrics import Metrics
from rangeserver.origin.attempts import Attempts, Retries
from rangeserver.origin.base import ReadReport
from rangeserver.origin.retrying import MAX_TOKENS, PROGRESS_BYTES, RetryPolicy, RetryTokens
from tests.exposition import scrape
from tests.origin.clock import Clock

POLICY = RetryPolicy(
    max_attempts=3,
    max_resumes=5,
    min_pause_seconds=0.0,
    max_pause_seconds=0.0,
    turn_seconds=30.0,
)
FAILED = OriginServerError("500")


def lowest(low: float, _: float) -> float:
    return low


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(POLICY, lowest, clock)


def allowed(attempts: Attempts, error: OriginError, *, begun: bool) -> int:
    """How many attempts there are after an error, again and again."""
    for count in range(100):
        if attempts.after(error, begun=begun) is None:
            return count
    raise AssertionError


BEFORE: dict[type[OriginError], int] = {
    OriginServerError: 2,
    OriginThrottled: 2,
    OriginTimeout: 2,
    OriginUnreachable: 2,
    OriginBodyError: 2,
    OriginProtocolError: 0,
    OriginBusy: 0,
    OriginSuspended: 0,
    AccessDenied: 0,
    ObjectChanged: 0,
}


@pytest.mark.parametrize("kind", BEFORE)
def test_before_the_first_byte_an_answer_has_all_its_attempts_at_once(
    attempts: Attempts, kind: type[OriginError]
) -> None:
    assert allowed(attempts, kind(), begun=False) == BEFORE[kind]


AFTER: dict[type[OriginError], int] = {
    OriginServerError: 5,
    OriginThrottled: 5,
    OriginTimeout: 5,
    OriginUnreachable: 5,
    OriginBodyError: 5,
    OriginProtocolError: 5,
    AccessDenied: 0,
    ObjectChanged: 0,
}


@pytest.mark.parametrize("kind", AFTER)
def test_a_body_that_has_begun_is_continued_as_often_as_allowed(
    attempts: Attempts, kind: type[OriginError]
) -> None:
    assert allowed(attempts, kind(), begun=True) == AFTER[kind]


def test_errors_of_all_kinds_are_counted_together(attempts: Attempts) -> None:
    for kind in (OriginBodyError, OriginUnreachable, OriginTimeout, OriginServerError):
        assert attempts.after(kind(), begun=True) is not None
    assert allowed(attempts, FAILED, begun=True) == 1


@pytest.mark.parametrize("kind", [OriginSuspended, OriginBusy])
def test_what_was_not_sent_costs_time_and_no_attempts(
    attempts: Attempts, clock: Clock, kind: type[OriginError]
) -> None:
    for _ in range(50):
        assert attempts.after(kind(), begun=True) is not None
    clock.now += POLICY.turn_seconds
    assert attempts.after(kind(), begun=True) is None
    assert allowed(attempts, FAILED, begun=True) == POLICY.max_resumes


def test_each_wait_for_a_turn_has_its_own_time(attempts: Attempts, clock: Clock) -> None:
    for _ in range(3):
        assert attempts.after(OriginSuspended(), begun=True) is not None
        clock.now += POLICY.turn_seconds
        assert attempts.after(FAILED, begun=True) is not None  # it was its turn


@pytest.mark.parametrize(("kind", "waits"), [(OriginSuspended, False), (OriginBusy, True)])
def test_without_resumes_an_origin_that_is_away_is_not_waited_for(
    clock: Clock, kind: type[OriginError], *, waits: bool
) -> None:
    """But for room that is: nothing broke."""
    policy = RetryPolicy(3, 0)
    pause = Attempts(policy, lowest, clock).after(kind(), begun=True)
    assert (pause is not None) is waits


def test_a_mebibyte_that_was_delivered_restores_them(attempts: Attempts) -> None:
    allowed(attempts, FAILED, begun=True)
    attempts.delivered(PROGRESS_BYTES - 1, first=False)
    assert allowed(attempts, FAILED, begun=True) == 0
    attempts.delivered(1, first=False)
    assert allowed(attempts, FAILED, begun=True) == POLICY.max_resumes


def test_only_what_comes_in_a_row_restores_them(attempts: Attempts) -> None:
    for _ in range(POLICY.max_resumes):
        attempts.delivered(PROGRESS_BYTES - 1, first=False)
        assert attempts.after(FAILED, begun=True) is not None
    attempts.delivered(PROGRESS_BYTES - 1, first=False)
    assert attempts.after(FAILED, begun=True) is None


def test_the_first_byte_of_all_does(attempts: Attempts) -> None:
    assert allowed(attempts, FAILED, begun=False) == 2
    attempts.delivered(1, first=True)
    assert allowed(attempts, FAILED, begun=True) == POLICY.max_resumes


def test_six_attempts_outlast_a_restart_of_some_seconds() -> None:
    """Whatever the dice say."""
    attempts = Attempts(RetryPolicy(3, 6), lowest)
    refused = OriginUnreachable()
    refused.connecting = True
    pauses = [attempts.after(OriginBodyError(), begun=True)]
    pauses += [attempts.after(refused, begun=True) for _ in range(5)]
    assert sum(each or math.nan for each in pauses) > 7.0


# --- together with what all share


class Course:
    """A response, and what is counted of it."""

    def __init__(self, policy: RetryPolicy = POLICY) -> None:
        self._metrics = Metrics()
        self.tokens = RetryTokens()
        self.retries = Retries(
            policy, tokens=self.tokens, metrics=self._metrics.origin, uniform=lowest
        )
        self.report = ReadReport("id")

    def without_tokens(self) -> None:
        for _ in range(int(MAX_TOKENS)):
            assert self.tokens.take(FAILED)

    def counted(self, name: str) -> float:
        return sum(scrape(self._metrics).named(f"rangeserver_origin_{name}_total").values())


async def test_what_is_repeated_is_counted_as_what_it_is() -> None:
    course = Course()
    assert await course.retries.another(FAILED, course.report)
    assert (course.counted("retries"), course.counted("resumes"), course.report.resumes) == (
        *(1, 0, 0),
    )
    course.report.delivered(1)
    assert await course.retries.another(FAILED, course.report)
    assert (course.counted("retries"), course.counted("resumes"), course.report.resumes) == (
        *(1, 1, 1),
    )


async def test_what_was_not_sent_is_counted_as_nothing_and_costs_no_token() -> None:
    course = Course()
    course.report.delivered(1)
    course.without_tokens()
    assert await course.retries.another(OriginSuspended(), course.report)
    assert (course.counted("retries"), course.counted("resumes"), course.report.resumes) == (
        *(0, 0, 0),
    )


async def test_without_tokens_one_that_has_not_begun_is_told_at_once() -> None:
    course = Course()
    course.without_tokens()
    assert not await course.retries.another(FAILED, course.report)


async def test_without_tokens_one_that_has_begun_waits_for_them() -> None:
    course = Course()
    course.report.delivered(1)
    course.without_tokens()
    waiting = asyncio.create_task(course.retries.another(FAILED, course.report))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    for _ in range(5):
        course.tokens.succeeded()
    assert await waiting


async def test_a_pause_that_ends_too_late_is_not_begun() -> None:
    course = Course(RetryPolicy(3, 5, min_pause_seconds=60.0, max_pause_seconds=60.0))
    soon = asyncio.get_running_loop().time() + 10
    assert not await course.retries.another(FAILED, course.report, until=soon)


async def test_what_was_done_for_several_counts_for_each_that_waited() -> None:
    course = Course()
    shared = course.report.shared()
    assert await course.retries.another(FAILED, shared)
    assert await course.retries.another(FAILED, shared)
    assert course.report.attempts is None
    course.report.join(shared)
    assert not await course.retries.another(FAILED, course.report)
    late = ReadReport("other")
    late.join(ReadReport("nothing failed"))
    assert await course.retries.another(FAILED, late)
