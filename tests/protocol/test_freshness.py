"""For how long facts may be used, by what the operator allows and the object asks for."""

from __future__ import annotations

import math

import pytest

from rangeserver.protocol.freshness import (
    ALWAYS_ASK,
    Freshness,
    FreshnessLimits,
    FreshnessRules,
    freshness_limits,
)
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.protocol.validators import format_http_date

DATE = 1_795_348_800.0
TTL, MORE, DAY = 5.0, 10.0, 86_400.0
RULES = FreshnessRules(TTL, MORE, DAY)


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


def decided(cache_control: str | None, rules: FreshnessRules = RULES) -> tuple[float, float, float]:
    found = freshness_limits(facts(cache_control), rules, date=DATE)
    return found.fresh, found.stale_while_revalidate, found.stale_if_error


@pytest.mark.parametrize(
    ("cache_control", "fresh", "while_revalidate", "if_error"),
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
    cache_control: str | None, fresh: float, while_revalidate: float, if_error: float
) -> None:
    assert decided(cache_control) == (fresh, while_revalidate, if_error)


@pytest.mark.parametrize(
    ("rules", "limits"),
    [
        (FreshnessRules(0.0, MORE, DAY), (0, 0, DAY)),
        (FreshnessRules(TTL, 0.0, 0.0), (5, 5, 0)),
        (FreshnessRules(7200.0, MORE, DAY), (3600, 3600, DAY)),
    ],
)
def test_the_operator_decides(rules: FreshnessRules, limits: tuple[float, float, float]) -> None:
    assert decided("max-age=3600", rules) == limits


@pytest.mark.parametrize(
    ("expires", "limits"),
    [
        (format_http_date(int(DATE) + 3600), FreshnessLimits(5, 15, DAY)),
        (format_http_date(int(DATE) + 2), FreshnessLimits(2, 2, DAY)),
        (format_http_date(int(DATE)), FreshnessLimits(0, 0, DAY)),
        (format_http_date(int(DATE) - 3600), FreshnessLimits(0, 0, DAY)),
        ("0", FreshnessLimits(0, 0, DAY)),
        ("-1", FreshnessLimits(0, 0, DAY)),
    ],
)
def test_expires(expires: str, limits: FreshnessLimits) -> None:
    assert freshness_limits(facts(expires=expires), RULES, date=DATE) == limits
    # It counts for nothing beside a max-age (RFC 9111 §5.3).
    assert freshness_limits(facts("max-age=3600", expires), RULES, date=DATE) == FreshnessLimits(
        5, 15, DAY
    )


@pytest.mark.parametrize(
    ("upstream_age", "limits"),
    [
        (0, FreshnessLimits(5, 15, DAY)),
        (55, FreshnessLimits(5, 5, DAY)),
        (90, FreshnessLimits(0, 0, DAY)),
    ],
)
def test_what_a_cache_before_the_origin_has_used_up(
    upstream_age: int, limits: FreshnessLimits
) -> None:
    assert (
        freshness_limits(facts("max-age=60", upstream_age=upstream_age), RULES, date=DATE) == limits
    )


def test_without_a_lifetime_its_age_does_not_count() -> None:
    assert freshness_limits(facts(upstream_age=9999), RULES, date=DATE) == freshness_limits(
        facts(), RULES, date=DATE
    )


def test_nothing_is_fresh_of_what_always_has_to_be_asked() -> None:
    assert ALWAYS_ASK.at(0.0) is Freshness.EXPIRED


@pytest.mark.parametrize(
    ("age", "freshness"),
    [
        (0.0, Freshness.FRESH),
        (4.9, Freshness.FRESH),
        (5.0, Freshness.STALE_WHILE_REVALIDATE),
        (14.9, Freshness.STALE_WHILE_REVALIDATE),
        (15.0, Freshness.STALE_IF_ERROR),
        (DAY - 0.1, Freshness.STALE_IF_ERROR),
        (DAY, Freshness.EXPIRED),
        (math.inf, Freshness.EXPIRED),
    ],
)
def test_an_age_is_compared_with_the_limits(age: float, freshness: Freshness) -> None:
    assert FreshnessLimits(TTL, TTL + MORE, DAY).at(age) is freshness


def test_after_an_error_facts_are_used_as_long_as_new_ones_within_their_limit() -> None:
    limits = FreshnessLimits(TTL, TTL + MORE, DAY)
    assert limits.after_error(100.0) == FreshnessLimits(105.0, 115.0, DAY)
    assert limits.after_error(DAY - 8) == FreshnessLimits(DAY - 3, DAY, DAY)
    assert ALWAYS_ASK.after_error(100.0) == ALWAYS_ASK
