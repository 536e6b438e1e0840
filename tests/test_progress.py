from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.progress import RateWindow


def test_no_judgement_before_the_window_is_full() -> None:
    rate = RateWindow(1000, 8)
    assert not rate.too_slow(0, 7.5)


def test_less_than_the_rate_over_a_full_window_is_too_slow() -> None:
    assert RateWindow(1000, 8).too_slow(7999, 8)


def test_just_the_rate_is_not_too_slow() -> None:
    assert not RateWindow(1000, 8).too_slow(8000, 8)


def test_bytes_and_waiting_time_add_up() -> None:
    rate = RateWindow(1000, 8)
    assert [rate.too_slow(999, 1) for _ in range(8)] == [False] * 7 + [True]
    assert not any(rate.too_slow(1000, 1) for _ in range(80))


def test_bytes_that_came_without_waiting_count() -> None:
    rate = RateWindow(1000, 8)
    assert not rate.too_slow(8000, 0)
    assert not rate.too_slow(0, 8)


def test_time_not_spent_waiting_does_not_count() -> None:
    rate = RateWindow(1000, 8)
    assert not any(rate.too_slow(1, 0) for _ in range(1000))


def test_a_window_forgets_the_one_before() -> None:
    rate = RateWindow(1000, 8)
    assert not rate.too_slow(1_000_000, 8)
    assert rate.too_slow(7999, 8)
    assert not rate.too_slow(8000, 8)


def test_a_wait_longer_than_the_window_is_judged_by_its_own_length() -> None:
    assert RateWindow(1000, 8).too_slow(15_999, 16)
    assert not RateWindow(1000, 8).too_slow(16_000, 16)


@pytest.mark.parametrize("waited", [0.0, 8.0, 1e9])
def test_rate_of_zero_judges_nothing(waited: float) -> None:
    assert not RateWindow(0, 8).too_slow(0, waited)


# Eighths of a second are exact in floating point, so the oracle may add in any order.
steps = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 40).map(lambda n: n / 8)), max_size=50
)


@given(steps=steps, rate=st.integers(0, 2000), window=st.integers(1, 80).map(lambda n: n / 8))
def test_each_full_window_is_judged_by_its_own_average(
    steps: list[tuple[int, float]], rate: int, window: float
) -> None:
    judge = RateWindow(rate, window)
    begun = 0
    for index, (received, waited) in enumerate(steps):
        current = steps[begun : index + 1]
        total_bytes, total_wait = (sum(column) for column in zip(*current, strict=True))
        full = total_wait >= window
        verdict = judge.too_slow(received, waited)
        if not full:
            assert verdict is False
            continue
        begun = index + 1
        # The division by the window is not exact: leave a hair's breadth undecided.
        if abs(total_bytes - rate * total_wait) > 1e-6:
            assert verdict is (total_bytes < rate * total_wait)
