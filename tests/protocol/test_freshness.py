"""For how long facts may be told, by what the operator allows and the object asks for."""

from __future__ import annotations

import pytest

from rangeserver.protocol.freshness import NONE, Belief, BeliefRules, belief
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.protocol.validators import format_http_date

DATE = 1_795_348_800.0
TTL, MORE, DAY = 5.0, 10.0, 86_400.0
RULES = BeliefRules(TTL, MORE, DAY)


def facts(
    cache_control: str | None = None, expires: str | None = None, upstream_age: int = 0
) -> ObjectFacts:
    return ObjectFacts(
        ObjectKey("a"),
        10,
        '"v1"',
        cache_control=cache_control,
        expires=expires,
        upstream_age=upstream_age,
    )


def decided(cache_control: str | None, rules: BeliefRules = RULES) -> tuple[float, float, float]:
    found = belief(facts(cache_control), rules, date=DATE)
    return found.fresh, found.while_asking, found.if_error


@pytest.mark.parametrize(
    ("cache_control", "fresh", "while_asking", "if_error"),
    [
        (None, 5, 15, DAY),
        ("public, immutable", 5, 15, DAY),
        # A lifetime that the object states bounds ours, and what is told while it is asked for.
        ("max-age=3600", 5, 15, DAY),
        ("max-age=8", 5, 8, DAY),
        ("max-age=1", 1, 1, DAY),
        ("max-age=0", 0, 0, DAY),
        ("max-age=3600, s-maxage=1", 1, 1, 1),
        ("max-age=1, s-maxage=3600", 5, 15, 3600),
        ("s-maxage=1, stale-if-error=60", 1, 1, 61),
        ("max-age=nonsense", 0, 0, DAY),
        # What it allows itself is allowed, as far as the operator does.
        ("max-age=1, stale-while-revalidate=30", 1, 11, DAY),
        ("max-age=1, stale-while-revalidate=3", 1, 4, DAY),
        ("max-age=0, stale-while-revalidate=30", 0, 10, DAY),
        ("max-age=8, stale-while-revalidate=3", 5, 8, DAY),
        ("max-age=3600, stale-while-revalidate=0", 5, 5, DAY),
        ("stale-while-revalidate=3", 5, 8, DAY),
        ("stale-while-revalidate=3600", 5, 15, DAY),
        ("max-age=60, stale-if-error=600", 5, 15, 660),
        ("max-age=60, stale-if-error=0", 5, 15, 60),
        ("stale-if-error=600", 5, 15, 605),
        ("stale-if-error=999999", 5, 15, DAY),
        # Within a lifetime that it states nothing is stale.
        ("must-revalidate", 5, 5, 5),
        ("proxy-revalidate, max-age=1", 1, 1, 1),
        ("must-revalidate, max-age=3600", 5, 15, 3600),
        ("must-revalidate, max-age=8, stale-while-revalidate=60", 5, 8, 8),
        # Nothing is told of it without asking.
        ("no-cache", 0, 0, 0),
        ("no-cache, max-age=60, stale-if-error=60", 0, 0, 0),
        ("no-store", 0, 0, 0),
        ("private, max-age=60", 0, 0, 0),
    ],
)
def test_the_object_can_only_ask_for_less(
    cache_control: str | None, fresh: float, while_asking: float, if_error: float
) -> None:
    assert decided(cache_control) == (fresh, while_asking, if_error)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (BeliefRules(0.0, MORE, DAY), (0, 0, DAY)),
        (BeliefRules(TTL, 0.0, 0.0), (5, 5, 0)),
        (BeliefRules(7200.0, MORE, DAY), (3600, 3600, DAY)),
    ],
)
def test_the_operator_decides(rules: BeliefRules, told: tuple[float, float, float]) -> None:
    assert decided("max-age=3600", rules) == told


@pytest.mark.parametrize(
    ("expires", "told"),
    [
        (format_http_date(int(DATE) + 3600), Belief(5, 15, DAY)),
        (format_http_date(int(DATE) + 2), Belief(2, 2, DAY)),
        (format_http_date(int(DATE)), Belief(0, 0, DAY)),
        (format_http_date(int(DATE) - 3600), Belief(0, 0, DAY)),
        ("0", Belief(0, 0, DAY)),
        ("-1", Belief(0, 0, DAY)),
    ],
)
def test_expires(expires: str, told: Belief) -> None:
    assert belief(facts(expires=expires), RULES, date=DATE) == told
    # It counts for nothing beside a max-age (RFC 9111 §5.3).
    assert belief(facts("max-age=3600", expires), RULES, date=DATE) == Belief(5, 15, DAY)


@pytest.mark.parametrize(
    ("upstream_age", "told"),
    [(0, Belief(5, 15, DAY)), (55, Belief(5, 5, DAY)), (90, Belief(0, 0, DAY))],
)
def test_what_a_cache_before_the_origin_has_used_up(upstream_age: int, told: Belief) -> None:
    assert belief(facts("max-age=60", upstream_age=upstream_age), RULES, date=DATE) == told


def test_without_a_lifetime_its_age_does_not_count() -> None:
    assert belief(facts(upstream_age=9999), RULES, date=DATE) == belief(facts(), RULES, date=DATE)


def test_nothing() -> None:
    assert Belief(0, 0, 0) == NONE
