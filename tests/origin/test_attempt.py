"""One attempt at an answer: what it knows of deadlines, and what it earns."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from rangeserver.errors import OriginServerError, OriginTimeout
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.deadlines import Deadline, Deadlines
from rangeserver.origin.retrying import PROGRESS_BYTES, TOKENS_PER_SUCCESS, RetryTokens
from tests.stepped_loop import passed

MIB = PROGRESS_BYTES


@pytest.fixture
def tokens() -> RetryTokens:
    """None are left."""
    tokens = RetryTokens()
    while tokens.take(OriginServerError()):
        pass
    return tokens


def test_a_refund_is_earned_instead_of_the_share_of_a_success(tokens: RetryTokens) -> None:
    Attempt(tokens=tokens).succeeded()
    assert tokens._tokens == pytest.approx(TOKENS_PER_SUCCESS)
    Attempt(tokens=tokens, refund=2.0).succeeded()
    assert tokens._tokens == pytest.approx(2.0 + TOKENS_PER_SUCCESS)
    assert tokens.take(OriginTimeout())


@pytest.mark.parametrize(
    ("parts", "successes"),
    [
        ([100], 1),
        ([50, 50], 1),
        ([MIB, MIB], 2),
        ([MIB - 1, 1, 1], 2),
        ([MIB // 2] * 4 + [1], 3),
        ([3 * MIB], 1),
    ],
)
def test_a_body_earns_as_it_comes(tokens: RetryTokens, parts: list[int], successes: int) -> None:
    earnings = Attempt(tokens=tokens).earnings(sum(parts))
    for count in parts:
        earnings.received(count)
    assert tokens._tokens == pytest.approx(successes * TOKENS_PER_SUCCESS)


def test_a_body_that_does_not_end_earns_only_what_has_come(tokens: RetryTokens) -> None:
    earnings = Attempt(tokens=tokens).earnings(10 * MIB)
    earnings.received(MIB - 1)
    assert tokens._tokens == 0.0


def test_a_body_is_refunded_once(tokens: RetryTokens) -> None:
    earnings = Attempt(tokens=tokens, refund=1.0).earnings(2 * MIB)
    earnings.received(MIB)
    earnings.received(MIB)
    assert tokens._tokens == pytest.approx(1.0 + TOKENS_PER_SUCCESS)


@pytest.mark.loops("stepped")
async def test_a_request_that_a_deadline_has_cancelled_timed_out() -> None:
    cancelled = asyncio.CancelledError()
    with Deadline(Deadlines(1.0)) as deadline:
        attempt = Attempt(deadline=deadline).over_new_connection()
        assert not attempt.timed_out(cancelled)
        with contextlib.suppress(asyncio.CancelledError):
            await passed(1.0)
    assert attempt.new_connection
    assert attempt.timed_out(cancelled)
    assert not attempt.timed_out(OSError())
    assert not Attempt().timed_out(cancelled)
