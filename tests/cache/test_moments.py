"""Moments in files, by whose clock and which way round."""

from __future__ import annotations

import math
import time

import pytest

from rangeserver.cache.header import NEVER
from rangeserver.cache.moments import as_told, noted, seconds_since
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

NOW = 1_795_348_800.0
UP = 5_000.0
"""For so long the machine has been running."""


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(time, "monotonic", lambda: UP)


def told(at: float) -> ObjectFacts:
    return ObjectFacts(ObjectKey("a"), 10, '"v1"', told_at=at)


@pytest.mark.parametrize("age", [0.0, 0.5, 60.0, UP])
def test_what_was_noted_is_as_old_when_it_is_read(age: float) -> None:
    moment = noted(told(UP - age))
    assert moment == NOW - age
    assert seconds_since(moment) == age
    assert as_told(told(-math.inf), moment).told_at == UP - age


def test_what_was_told_before_this_start_is_older_than_the_machine_has_run() -> None:
    assert as_told(told(0.0), NOW - 7 * UP).told_at == UP - 7 * UP


def test_what_was_never_told_is_noted_as_that() -> None:
    assert noted(told(-math.inf)) == NEVER


def test_a_moment_in_the_future_counts_as_long_ago() -> None:
    """The clock was set back, and nobody knows by how much."""
    assert seconds_since(NOW + 1) == math.inf
    assert as_told(told(0.0), NOW + 1).told_at == UP - NOW
