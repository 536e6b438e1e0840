"""Attempts of responses, with what they cost and what is counted of them."""

from __future__ import annotations

import asyncio

from rangeserver.errors import OriginServerError, OriginSuspended
from rangeserver.metrics import Metrics
from rangeserver.origin.attempts import Retries
from rangeserver.origin.base import ReadReport
from rangeserver.origin.retrying import MAX_TOKENS, RetryPolicy, RetryTokens
from tests.exposition import scrape

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
        course.tokens.earn()
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
    assert course.report.budget is None
    course.report.join(shared)
    assert not await course.retries.another(FAILED, course.report)
    late = ReadReport("other")
    late.join(ReadReport("nothing failed"))
    assert await course.retries.another(FAILED, late)
