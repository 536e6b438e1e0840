"""A set of integers as sorted runs: its size is that of the runs, not of the members."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain


class Runs:
    """Disjoint half-open runs ``[first, stop)`` that do not touch each other."""

    __slots__ = ("_firsts", "_stops")

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._stops = array("Q")

    def __len__(self) -> int:
        """The number of runs."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs, in order."""
        return zip(self._firsts, self._stops, strict=True)

    def members(self) -> Iterator[int]:
        """The numbers, in order."""
        return chain.from_iterable(range(first, stop) for first, stop in self)

    def next_missing(self, first: int, stop: int) -> int | None:
        """The first number of ``[first, stop)`` that is not a member."""
        if first >= stop:
            return None
        found = bisect_right(self._firsts, first)
        if found and (end := self._stops[found - 1]) > first:
            return end if end < stop else None
        return first

    def next_present(self, first: int, stop: int) -> int:
        """The first member of ``[first, stop)``, or ``stop``."""
        found = bisect_right(self._stops, first)
        if found == len(self._stops):
            return stop
        return min(max(self._firsts[found], first), stop)

    def add(self, first: int, stop: int) -> None:
        """Make all of ``[first, stop)`` members."""
        left = bisect_left(self._stops, first)
        right = bisect_right(self._firsts, stop)
        if left < right:
            first = min(first, self._firsts[left])
            stop = max(stop, self._stops[right - 1])
        self._replace(left, right, [(first, stop)])

    def discard(self, first: int, stop: int) -> None:
        """Make none of ``[first, stop)`` a member."""
        left = bisect_right(self._stops, first)
        right = bisect_left(self._firsts, stop)
        if left >= right:
            return
        before = (self._firsts[left], first)
        after = (stop, self._stops[right - 1])
        self._replace(left, right, [run for run in (before, after) if run[0] < run[1]])

    def _replace(self, left: int, right: int, runs: list[tuple[int, int]]) -> None:
        self._firsts[left:right] = array("Q", [first for first, _ in runs])
        self._stops[left:right] = array("Q", [stop for _, stop in runs])
