"""Facts in the metadata cache, by their age."""

from __future__ import annotations

import pytest

from rangeserver.cache.metadata_entry import MetadataEntry, entry_of
from rangeserver.protocol.freshness import FreshnessRules
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

NOW, WALL_NOW = 5_000.0, 1_795_348_800.0
RULES = FreshnessRules(5.0, 10.0, 3600.0)


def entry(age: float, cache_control: str | None = None) -> MetadataEntry:
    facts = ObjectFacts(
        ObjectKey("a"), 10, '"v1"', cache_control=cache_control, validated_at=NOW - age
    )
    return entry_of(facts, RULES, now=NOW, wall_now=WALL_NOW)


def test_facts_are_fresh_then_usable_then_neither() -> None:
    made = entry(0.0)
    times = (NOW, NOW + 5, NOW + 15)
    assert [made.is_fresh(now) for now in times] == [True, False, False]
    assert [made.is_usable(now) for now in times] == [True, True, False]


def test_facts_that_come_from_a_cache_are_as_old_as_they_say() -> None:
    made = entry(4.0)
    assert (made.is_fresh(NOW + 0.5), made.is_fresh(NOW + 1.5)) == (True, False)


@pytest.mark.parametrize(("age", "usable_for"), [(1000.0, 15.0), (3592.0, 8.0), (3600.0, 0.0)])
def test_facts_that_are_stale_on_arrival_are_used_like_new_ones(
    age: float, usable_for: float
) -> None:
    made = entry(age)
    assert made.is_fresh(NOW) is (usable_for > 0)
    assert not usable_for or made.is_usable(NOW + usable_for - 0.1)
    assert not made.is_usable(NOW + usable_for)


def test_what_always_has_to_be_asked_is_never_usable() -> None:
    assert not entry(0.0, "no-cache").is_usable(NOW)


def test_the_size_is_that_of_the_texts() -> None:
    assert entry(0.0, "no-cache").size_bytes == len('a"v1"no-cache')
