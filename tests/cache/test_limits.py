"""How much a cache may take of a disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.cache.limits import Limits, Use

LIMITS = Limits(max_bytes=1000, min_free_bytes=100)
PLENTY = 1 << 50


@pytest.mark.parametrize(
    ("use", "distance"),
    [
        (Use(0, PLENTY), 1000),
        (Use(990, PLENTY), 10),
        (Use(1000, PLENTY), 0),
        (Use(1001, PLENTY), -1),
        (Use(0, 150), 50),
        (Use(0, 100), 0),
        (Use(0, 40), -60),
        (Use(980, 110), 10),
    ],
)
def test_what_may_still_be_written(use: Use, distance: int) -> None:
    assert LIMITS.distance(use) == distance
    assert LIMITS.distance(use.plus(7)) == distance - 7


@pytest.mark.parametrize(
    ("use", "excess"),
    [
        (Use(950, PLENTY), None),
        (Use(951, PLENTY), 51),  # until 90 %
        (Use(1000, PLENTY), 100),
        (Use(500, 112), None),
        (Use(500, 111), 14),  # until there is a margin of 5 % of what is taken
        (Use(500, 50), 75),
        (Use(0, 100), None),
        (Use(0, 50), 50),
        (Use(1000, 50), 100),
    ],
)
def test_evictions_begin_before_a_limit_and_end_well_below_it(use: Use, excess: int | None) -> None:
    assert LIMITS.is_pressed(use) == (excess is not None)
    if excess is not None:
        assert LIMITS.excess(use) == excess


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 500))
def test_there_is_room_after_an_eviction(taken: int, free: int, count: int) -> None:
    use = Use(taken, free)
    if LIMITS.distance(use.plus(count)) >= 0:
        return
    excess = LIMITS.excess(use.plus(count))
    assert excess > 0
    if excess <= taken:
        after = Use(taken - excess, free + excess)
        assert LIMITS.distance(after.plus(count)) >= 0
