"""What is worth a retry, when, and how many are affordable."""

from __future__ import annotations

import math

import pytest

from rangeserver.errors import (
    AccessDenied,
    AccessHidden,
    CredentialsExpired,
    KeyRefused,
    NoCredentials,
    NoneFound,
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
    PROGRESS_BYTES,
    TOKENS_PER_SUCCESS,
    Backoff,
    RetryBudget,
    RetryPolicy,
    RetryTokens,
    reason_to_retry,
)
from tests.origin.clock import Clock

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
    NoneFound: None,
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
        tokens.earn()
    assert taken(tokens, OriginUnreachable()) == MAX_TOKENS


def test_a_deadline_costs_twice() -> None:
    assert taken(RetryTokens(), OriginTimeout()) == MAX_TOKENS / 2


def test_successes_earn_retries() -> None:
    tokens = RetryTokens()
    taken(tokens, OriginUnreachable())
    for _ in range(4):
        tokens.earn()
    assert not tokens.take(OriginUnreachable())
    tokens.earn()
    tokens.earn()
    assert tokens.take(OriginUnreachable())
    assert not tokens.take(OriginUnreachable())


def test_an_origin_that_fails_half_gets_a_tenth_more_at_most() -> None:
    tokens = RetryTokens()
    taken(tokens, OriginServerError())
    retries = 0
    for _ in range(1000):
        tokens.earn()
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
    pauses = Backoff(POLICY, highest)
    assert [pauses.next(FAILED) for _ in range(6)] == pytest.approx(
        [0.15, 0.45, 1.35, 2.0, 2.0, 2.0]
    )


def test_pauses_are_never_shorter_than_the_least() -> None:
    pauses = Backoff(POLICY, lowest)
    assert {pauses.next(FAILED) for _ in range(6)} == {0.05}


def test_those_who_failed_together_come_back_apart() -> None:
    first = {Backoff(POLICY).next(FAILED) for _ in range(50)}
    assert len(first) > 40
    assert all(0.05 <= pause <= 0.15 for pause in first)


def test_an_origin_that_throttles_is_given_more_time() -> None:
    assert Backoff(POLICY, lowest).next(OriginThrottled()) == 0.5
    short = RetryPolicy(9, 9, min_pause_seconds=0.0, max_pause_seconds=0.1)
    assert Backoff(short, lowest).next(OriginThrottled()) == 0.1


def test_a_connection_that_ended_is_replaced_at_once_and_once() -> None:
    pauses = Backoff(POLICY, lowest)
    ended = OriginUnreachable()
    assert [pauses.next(ended) for _ in range(3)] == [0.0, 0.05, 0.05]
    pauses.restart()
    assert pauses.next(ended) == 0.0


def test_one_that_could_not_be_made_is_not() -> None:
    pauses = Backoff(POLICY, lowest)
    assert pauses.next(after(OriginUnreachable(), connecting=True)) == 0.05


def test_an_open_circuit_is_waited_out() -> None:
    pauses = Backoff(POLICY, lowest)
    assert [pauses.next(OriginSuspended()) for _ in range(3)] == [1.0, 1.0, 1.0]


def test_progress_makes_pauses_short_again() -> None:
    pauses = Backoff(POLICY, highest)
    assert pauses.next(FAILED) == pytest.approx(0.15)
    assert pauses.next(FAILED) == pytest.approx(0.45)
    pauses.restart()
    assert pauses.next(FAILED) == pytest.approx(0.15)


def test_a_body_that_has_begun_waits_for_a_restart() -> None:
    refused = OriginUnreachable()
    refused.connecting = True
    assert Backoff(POLICY, lowest).next(refused, patient=True) == 0.5
    assert Backoff(POLICY, lowest).next(refused) == POLICY.min_pause_seconds


# --- the budget of one response

RULES = RetryPolicy(
    max_attempts=3,
    max_resumes=5,
    min_pause_seconds=0.0,
    max_pause_seconds=0.0,
    turn_seconds=30.0,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock: Clock) -> RetryBudget:
    return RetryBudget(RULES, lowest, clock)


def allowed(budget: RetryBudget, error: OriginError, *, begun: bool) -> int:
    """How many attempts there are after an error, again and again."""
    for count in range(100):
        if budget.after(error, begun=begun) is None:
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
    budget: RetryBudget, kind: type[OriginError]
) -> None:
    assert allowed(budget, kind(), begun=False) == BEFORE[kind]


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
    budget: RetryBudget, kind: type[OriginError]
) -> None:
    assert allowed(budget, kind(), begun=True) == AFTER[kind]


def test_errors_of_all_kinds_are_counted_together(budget: RetryBudget) -> None:
    for kind in (OriginBodyError, OriginUnreachable, OriginTimeout, OriginServerError):
        assert budget.after(kind(), begun=True) is not None
    assert allowed(budget, FAILED, begun=True) == 1


@pytest.mark.parametrize("kind", [OriginSuspended, OriginBusy])
def test_what_was_not_sent_costs_time_and_no_attempts(
    budget: RetryBudget, clock: Clock, kind: type[OriginError]
) -> None:
    for _ in range(50):
        assert budget.after(kind(), begun=True) is not None
    clock.now += RULES.turn_seconds
    assert budget.after(kind(), begun=True) is None
    assert allowed(budget, FAILED, begun=True) == RULES.max_resumes


def test_each_wait_for_a_turn_has_its_own_time(budget: RetryBudget, clock: Clock) -> None:
    for _ in range(3):
        assert budget.after(OriginSuspended(), begun=True) is not None
        clock.now += RULES.turn_seconds
        assert budget.after(FAILED, begun=True) is not None  # it was its turn


@pytest.mark.parametrize(("kind", "waits"), [(OriginSuspended, False), (OriginBusy, True)])
def test_without_resumes_an_origin_that_is_away_is_not_waited_for(
    clock: Clock, kind: type[OriginError], *, waits: bool
) -> None:
    """But for room that is: nothing broke."""
    policy = RetryPolicy(3, 0)
    pause = RetryBudget(policy, lowest, clock).after(kind(), begun=True)
    assert (pause is not None) is waits


def test_a_mebibyte_that_was_delivered_restores_them(budget: RetryBudget) -> None:
    allowed(budget, FAILED, begun=True)
    budget.delivered(PROGRESS_BYTES - 1, first=False)
    assert allowed(budget, FAILED, begun=True) == 0
    budget.delivered(1, first=False)
    assert allowed(budget, FAILED, begun=True) == RULES.max_resumes


def test_only_what_comes_in_a_row_restores_them(budget: RetryBudget) -> None:
    for _ in range(RULES.max_resumes):
        budget.delivered(PROGRESS_BYTES - 1, first=False)
        assert budget.after(FAILED, begun=True) is not None
    budget.delivered(PROGRESS_BYTES - 1, first=False)
    assert budget.after(FAILED, begun=True) is None


def test_the_first_byte_of_all_does(budget: RetryBudget) -> None:
    assert allowed(budget, FAILED, begun=False) == 2
    budget.delivered(1, first=True)
    assert allowed(budget, FAILED, begun=True) == RULES.max_resumes


def test_six_attempts_outlast_a_restart_of_some_seconds() -> None:
    """Whatever the dice say."""
    budget = RetryBudget(RetryPolicy(3, 6), lowest)
    refused = OriginUnreachable()
    refused.connecting = True
    pauses = [budget.after(OriginBodyError(), begun=True)]
    pauses += [budget.after(refused, begun=True) for _ in range(5)]
    assert sum(each or math.nan for each in pauses) > 7.0
