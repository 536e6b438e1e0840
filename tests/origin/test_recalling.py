"""Which places are taken back: as few as are waited for, and from those who can spare them."""

from __future__ import annotations

from collections import Counter

import pytest

from rangeserver.origin.recalling import Lent, Line, to_recall


def recalled(lent: str, waiting: dict[str, int], *, begun: int = 0, at_most: int = 99) -> str:
    """The places taken back, of those that ``lent`` names: ``i`` for an idle one, ``u`` for one
    that is used, and the client; the first has been so for longest.
    """
    places = [
        Lent(f"{each[1]}{number}", each[1], float(number), idle=each[0] == "i")
        for number, each in enumerate(lent.split())
    ]
    lines = [Line(client, count, begun) for client, count in waiting.items()]
    held = Counter(place.client for place in places)
    return " ".join(to_recall(places, lines, held, at_most=at_most))


def test_nobody_waits() -> None:
    assert recalled("ia ia", {}) == ""


@pytest.mark.parametrize(
    ("lent", "waiting", "expected"),
    [
        ("ia", {"b": 1}, "a0"),  # one for one
        ("ia ia ia", {"b": 1}, "a0"),  # that was idle for longest
        ("ib ia ia", {"c": 1}, "a1"),  # of the client who has most
        ("ia ia", {"a": 1}, "a0"),  # for itself, too
        ("ia ib ib", {"b": 1}, "b1"),  # but not of one who has less
        ("ia ub ub", {"b": 1}, ""),
        ("ia ia ia ia", {"b": 9}, "a0 a1 a2"),  # as long as it has as many
        ("ia ia ia ia", {"b": 1, "c": 1}, "a0 a1"),
    ],
)
def test_idle_places(lent: str, waiting: dict[str, int], expected: str) -> None:
    assert recalled(lent, waiting) == expected


@pytest.mark.parametrize(
    ("lent", "waiting", "expected"),
    [
        ("ua", {"b": 1}, ""),  # else they would have it in turns
        ("ua ua", {"b": 1}, "a0"),
        ("ua ua ua ua", {"b": 9}, "a0 a1"),
        ("ua ua ub", {"b": 1}, ""),
        ("ua ua ia", {"b": 1}, "a2"),  # an idle one first
        ("ua ua", {"a": 1}, ""),  # one's own bodies are not cut for one's own requests
    ],
)
def test_places_that_are_used(lent: str, waiting: dict[str, int], expected: str) -> None:
    assert recalled(lent, waiting) == expected


def test_bodies_of_one_client_that_have_begun_take_turns() -> None:
    assert recalled("ua ua", {"a": 3}, begun=1) == "a0"
    assert recalled("ua ub", {"a": 1}, begun=1) == "a0"


def test_only_so_many_at_once() -> None:
    assert recalled(" ".join(["ia"] * 10), {"b": 9}, at_most=3) == "a0 a1 a2"
