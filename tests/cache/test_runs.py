"""Sets of numbers in runs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rangeserver.cache.runs import Runs

NUMBERS = 30
span = st.tuples(st.integers(0, NUMBERS), st.integers(0, NUMBERS)).map(
    lambda ends: (min(ends), max(ends) + 1)
)


@given(st.lists(st.tuples(st.booleans(), span)))
def test_runs_are_a_set(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    runs, members = Runs(), set[int]()
    for adds, (first, stop) in steps:
        if adds:
            runs.add(first, stop)
            members |= set(range(first, stop))
        else:
            runs.discard(first, stop)
            members -= set(range(first, stop))
    for first in range(NUMBERS + 2):
        for stop in range(first, NUMBERS + 2):
            missing = [n for n in range(first, stop) if n not in members]
            assert runs.next_missing(first, stop) == next(iter(missing), None)
            present = [n for n in range(first, stop) if n in members]
            assert runs.next_present(first, stop) == next(iter(present), stop)
    begins = [n for n in members if n - 1 not in members]
    assert len(runs) == len(begins)
    assert list(runs.members()) == sorted(members)


def test_runs_that_touch_become_one() -> None:
    runs = Runs()
    for number in range(0, 100, 2):
        runs.add(number, number + 1)
    assert len(runs) == 50
    for number in range(1, 100, 2):
        runs.add(number, number + 1)
    assert len(runs) == 1
