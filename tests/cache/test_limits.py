"""How much a cache may take of a disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.cache.limits import DiskSpace, Limits

LIMITS = Limits(max_bytes=1000, min_free_bytes=100)
PLENTY = 1 << 50


@pytest.mark.parametrize(
    ("use", "distance"),
    [
        (DiskSpace(0, PLENTY), 1000),
        (DiskSpace(990, PLENTY), 10),
        (DiskSpace(1000, PLENTY), 0),
        (DiskSpace(1001, PLENTY), -1),
        (DiskSpace(0, 150), 50),
        (DiskSpace(0, 100), 0),
        (DiskSpace(0, 40), -60),
        (DiskSpace(980, 110), 10),
    ],
)
def test_what_may_still_be_written(use: DiskSpace, distance: int) -> None:
    assert LIMITS.distance(use) == distance
    assert LIMITS.distance(use.plus(7)) == distance - 7


@pytest.mark.parametrize(
    ("use", "excess"),
    [
        (DiskSpace(950, PLENTY), None),
        (DiskSpace(951, PLENTY), 51),  # until 90 %
        (DiskSpace(1000, PLENTY), 100),
        (DiskSpace(500, 112), None),
        (DiskSpace(500, 111), 14),  # until there is a margin of 5 % of what is taken
        (DiskSpace(500, 50), 75),
        (DiskSpace(0, 100), None),
        (DiskSpace(0, 50), 50),
        (DiskSpace(1000, 50), 100),
    ],
)
def test_evictions_begin_before_a_limit_and_end_well_below_it(
    use: DiskSpace, excess: int | None
) -> None:
    assert LIMITS.is_pressed(use) == (excess is not None)
    if excess is not None:
        assert LIMITS.excess(use) == excess


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 500))
def test_there_is_room_after_an_eviction(taken: int, free: int, count: int) -> None:
    use = DiskSpace(taken, free)
    if LIMITS.distance(use.plus(count)) >= 0:
        return
    excess = LIMITS.excess(use.plus(count))
    assert excess > 0
    if excess <= taken:
        after = DiskSpace(taken - excess, free + excess)
        assert LIMITS.distance(after.plus(count)) >= 0
