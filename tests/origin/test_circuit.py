"""The circuit breaker, by a clock of its own."""

from __future__ import annotations

import pytest

from rangeserver.errors import OriginSuspended
from rangeserver.origin.circuit import (
    FAILURES_IN_A_ROW,
    MAX_PAUSE_SECONDS,
    MIN_PAUSE_SECONDS,
    CircuitBreaker,
)
from tests.origin.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock)


def admits(circuit: CircuitBreaker) -> bool:
    try:
        circuit.admit()
    except OriginSuspended:
        return False
    return True


def fail(circuit: CircuitBreaker, times: int = FAILURES_IN_A_ROW) -> None:
    for _ in range(times):
        circuit.unanswered("a", connected=False)


def test_it_opens_after_so_many_failures_in_a_row(circuit: CircuitBreaker) -> None:
    for _ in range(FAILURES_IN_A_ROW):
        assert admits(circuit)
        assert not circuit.is_open
        fail(circuit, 1)
    assert circuit.is_open
    assert not admits(circuit)


def test_an_answer_in_between_starts_the_count_anew(circuit: CircuitBreaker) -> None:
    for _ in range(3):
        fail(circuit, FAILURES_IN_A_ROW - 1)
        circuit.answered()
    assert not circuit.is_open
    assert admits(circuit)


def test_whoever_is_refused_is_told_for_how_long(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit)
    clock.now += 0.25
    with pytest.raises(OriginSuspended, match=r"not asked for 0\.8 s more") as refused:
        circuit.admit()
    assert refused.value.headers == {"Retry-After": "1"}
    assert refused.value.status == 503


def test_after_the_pause_one_is_let_through(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit)
    clock.now += MIN_PAUSE_SECONDS - 0.01
    assert not admits(circuit)
    clock.now += 0.01
    assert [admits(circuit) for _ in range(5)] == [True, False, False, False, False]


def test_the_answer_to_that_one_closes_it(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit)
    clock.now += MIN_PAUSE_SECONDS
    assert admits(circuit)
    circuit.answered()
    assert not circuit.is_open
    assert all(admits(circuit) for _ in range(5))
    fail(circuit, FAILURES_IN_A_ROW - 1)
    assert admits(circuit)


def test_one_that_never_comes_back_is_followed_by_another(
    circuit: CircuitBreaker, clock: Clock
) -> None:
    """Its client may have left."""
    fail(circuit)
    for _ in range(3):
        clock.now += MIN_PAUSE_SECONDS
        assert admits(circuit)
        assert not admits(circuit)


def test_the_pause_doubles_up_to_its_limit(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit)
    for pause in (1, 2, 4, 8, 10, 10):
        assert pause <= MAX_PAUSE_SECONDS
        clock.now += pause - 0.01
        assert not admits(circuit)
        clock.now += 0.01
        assert admits(circuit)
        clock.now += 3  # what it takes to fail comes on top
        fail(circuit, 1)


def test_an_answer_makes_the_pause_short_again(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit)
    clock.now += MIN_PAUSE_SECONDS
    assert admits(circuit)
    fail(circuit, 1)
    circuit.answered()
    fail(circuit)
    clock.now += MIN_PAUSE_SECONDS
    assert admits(circuit)


def test_failures_of_requests_sent_before_lengthen_no_pause(
    circuit: CircuitBreaker, clock: Clock
) -> None:
    """A hundred may have been on their way when the origin went."""
    fail(circuit, 100)
    clock.now += MIN_PAUSE_SECONDS
    assert admits(circuit)
    fail(circuit, 100)
    clock.now += 2 * MIN_PAUSE_SECONDS
    assert admits(circuit)


def test_silence_about_one_object_counts_once(circuit: CircuitBreaker) -> None:
    for _ in range(10 * FAILURES_IN_A_ROW):
        circuit.unanswered("faulty", connected=True)
    assert admits(circuit)
    for key in range(FAILURES_IN_A_ROW - 2):
        circuit.unanswered(str(key), connected=True)
    assert not circuit.is_open
    circuit.unanswered("last", connected=True)
    assert circuit.is_open


def test_without_a_connection_it_is_about_no_object(circuit: CircuitBreaker) -> None:
    for _ in range(FAILURES_IN_A_ROW):
        circuit.unanswered("a", connected=False)
    assert circuit.is_open
