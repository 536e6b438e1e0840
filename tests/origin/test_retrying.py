"""What is worth a retry, when, and how many are affordable."""

from __future__ import annotations

import pytest

from rangeserver.errors import (
    AccessDenied,
    AccessHidden,
    CredentialsExpired,
    KeyRefused,
    NoCredentials,
    ObjectChanged,
    ObjectNotFound,
    ObjectWithdrawn,
    OriginBodyError,
    OriginBusy,
    OriginClockSkew,
    OriginError,
    OriginProtocolError,
    OriginRecalled,
    OriginRefused,
    OriginServerError,
    OriginSuspended,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
    RangeUnsatisfiable,
    UnclearRefusal,
)
from rangeserver.origin.retrying import (
    MAX_TOKENS,
    TOKENS_PER_SUCCESS,
    Pauses,
    RetryPolicy,
    RetryTokens,
    reason_to_retry,
)

REASONS: dict[type[OriginError], str | None] = {
    OriginUnreachable: "unreachable",
    OriginTimeout: "timeout",
    OriginThrottled: "throttled",
    OriginServerError: "server_error",
    OriginSuspended: None,
    OriginBusy: None,
    OriginRecalled: None,
    ObjectWithdrawn: None,
    ObjectNotFound: None,
    KeyRefused: None,
    AccessHidden: None,
    AccessDenied: None,
    ObjectChanged: None,
    RangeUnsatisfiable: None,
    OriginRefused: None,
    NoCredentials: None,
    CredentialsExpired: None,
    OriginClockSkew: None,
    UnclearRefusal: None,
    OriginProtocolError: None,
    OriginBodyError: None,
    OriginError: None,
}


@pytest.mark.parametrize("kind", REASONS)
def test_what_may_pass_is_worth_a_retry(kind: type[OriginError]) -> None:
    assert reason_to_retry(kind("x")) == REASONS[kind]


def subclasses(kind: type[OriginError]) -> set[type[OriginError]]:
    return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))


def test_every_error_was_thought_of() -> None:
    ours = {kind for kind in subclasses(OriginError) if kind.__module__ == OriginError.__module__}
    assert ours == set(REASONS)


# --- the budget of all together


def taken(tokens: RetryTokens, error: OriginError) -> int:
    count = 0
    while tokens.take(error):
        count += 1
        assert count < 1000
    return count


def test_the_budget_is_bounded() -> None:
    tokens = RetryTokens()
    for _ in range(10_000):
        tokens.succeeded()
    assert taken(tokens, OriginUnreachable()) == MAX_TOKENS


def test_a_deadline_costs_twice() -> None:
    assert taken(RetryTokens(), OriginTimeout()) == MAX_TOKENS / 2


def test_successes_earn_retries() -> None:
    tokens = RetryTokens()
    taken(tokens, OriginUnreachable())
    for _ in range(4):
        tokens.succeeded()
    assert not tokens.take(OriginUnreachable())
    tokens.succeeded()
    tokens.succeeded()
    assert tokens.take(OriginUnreachable())
    assert not tokens.take(OriginUnreachable())


def test_an_origin_that_fails_half_gets_a_tenth_more_at_most() -> None:
    tokens = RetryTokens()
    taken(tokens, OriginServerError())
    retries = 0
    for _ in range(1000):
        tokens.succeeded()
        retries += tokens.take(OriginServerError())
    assert retries == pytest.approx(1000 * TOKENS_PER_SUCCESS, abs=1)


# --- pauses

POLICY = RetryPolicy(max_attempts=9, max_resumes=9, min_pause_seconds=0.05, max_pause_seconds=2.0)


def lowest(low: float, _: float) -> float:
    return low


def highest(_: float, high: float) -> float:
    return high


def after(cause: OriginError, *, connecting: bool = False) -> OriginError:
    cause.connecting = connecting
    return cause


FAILED = OriginServerError()


def test_pauses_grow_up_to_their_limit() -> None:
    pauses = Pauses(POLICY, highest)
    assert [pauses.next(FAILED) for _ in range(6)] == pytest.approx(
        [0.15, 0.45, 1.35, 2.0, 2.0, 2.0]
    )


def test_pauses_are_never_shorter_than_the_least() -> None:
    pauses = Pauses(POLICY, lowest)
    assert {pauses.next(FAILED) for _ in range(6)} == {0.05}


def test_those_who_failed_together_come_back_apart() -> None:
    first = {Pauses(POLICY).next(FAILED) for _ in range(50)}
    assert len(first) > 40
    assert all(0.05 <= pause <= 0.15 for pause in first)


def test_an_origin_that_throttles_is_given_more_time() -> None:
    assert Pauses(POLICY, lowest).next(OriginThrottled()) == 0.5
    short = RetryPolicy(9, 9, min_pause_seconds=0.0, max_pause_seconds=0.1)
    assert Pauses(short, lowest).next(OriginThrottled()) == 0.1


def test_a_connection_that_ended_is_replaced_at_once_and_once() -> None:
    pauses = Pauses(POLICY, lowest)
    ended = OriginUnreachable()
    assert [pauses.next(ended) for _ in range(3)] == [0.0, 0.05, 0.05]
    pauses.restart()
    assert pauses.next(ended) == 0.0


def test_one_that_could_not_be_made_is_not() -> None:
    pauses = Pauses(POLICY, lowest)
    assert pauses.next(after(OriginUnreachable(), connecting=True)) == 0.05


def test_an_open_circuit_is_waited_out() -> None:
    pauses = Pauses(POLICY, lowest)
    assert [pauses.next(OriginSuspended()) for _ in range(3)] == [1.0, 1.0, 1.0]


def test_progress_makes_pauses_short_again() -> None:
    pauses = Pauses(POLICY, highest)
    assert pauses.next(FAILED) == pytest.approx(0.15)
    assert pauses.next(FAILED) == pytest.approx(0.45)
    pauses.restart()
    assert pauses.next(FAILED) == pytest.approx(0.15)


def test_a_body_that_has_begun_waits_for_a_restart() -> None:
    refused = OriginUnreachable()
    refused.connecting = True
    assert Pauses(POLICY, lowest).next(refused, patient=True) == 0.5
    assert Pauses(POLICY, lowest).next(refused) == POLICY.min_pause_seconds
