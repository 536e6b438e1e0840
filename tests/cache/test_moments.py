"""Ages of facts, between the clock of a process and that of files."""

from __future__ import annotations

import math
import time

import pytest

from rangeserver.cache.header import NEVER
from rangeserver.cache.moments import age_of, moment_of, validated_at
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

NOW = 1_795_348_800.0
UP = 5_000.0
"""How long the machine has been running."""


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(time, "monotonic", lambda: UP)


def facts(at: float) -> ObjectFacts:
    return ObjectFacts(ObjectKey("a"), 10, '"v1"', validated_at=at)


@pytest.mark.parametrize("age", [0.0, 0.5, 60.0, UP])
def test_facts_from_a_file_are_as_old_as_when_they_were_written(age: float) -> None:
    moment = moment_of(facts(UP - age))
    assert moment == NOW - age
    assert age_of(moment) == age
    assert validated_at(facts(-math.inf), moment).validated_at == UP - age


def test_facts_from_before_this_boot_are_older_than_the_machine_has_run() -> None:
    assert validated_at(facts(0.0), NOW - 7 * UP).validated_at == UP - 7 * UP


def test_facts_of_unknown_age_have_the_moment_never() -> None:
    assert moment_of(facts(-math.inf)) == NEVER


def test_a_moment_in_the_future_counts_as_long_ago() -> None:
    """The clock was set back, and nobody knows by how much."""
    assert age_of(NOW + 1) == math.inf
    assert validated_at(facts(0.0), NOW + 1).validated_at == UP - NOW
