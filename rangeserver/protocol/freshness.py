"""For how long facts may be used that an origin has given (RFC 9111 §4.2, RFC 5861).

This is the one decision about it, for facts in memory and for those in files. It compares an age,
the seconds since the origin was asked, with limits. The configuration sets the limits, and an
object's own header fields can only lower them.

One rule says which clock measures an age. In a process it is the monotonic clock, which nobody
sets: :attr:`~rangeserver.protocol.representation.ObjectFacts.validated_at`. In files, which other
processes and later boots read, it is the wall clock. :mod:`rangeserver.cache.moments` converts
between them, and nothing else does. Facts that are passed on keep their age, so each limit holds
from the origin's answer on, however many caches the facts pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from rangeserver.protocol.cache_control import read_cache_control
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.protocol.validators import parse_http_date


class Freshness(Enum):
    """What facts may be used for."""

    FRESH = auto()
    """Any request, without asking the origin."""
    STALE_WHILE_REVALIDATE = auto()
    """Any request, while the origin is asked in the background."""
    STALE_IF_ERROR = auto()
    """Requests for which the origin was asked and could not answer."""
    EXPIRED = auto()
    """Nothing: the origin has to be asked."""


@dataclass(frozen=True, slots=True)
class FreshnessRules:
    """What the operator allows, in seconds: ``ttl`` without asking, ``stale_while_revalidate`` more
    while the origin is asked, and ``stale_if_error`` in all while it cannot be asked.
    """

    ttl: float
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0


@dataclass(frozen=True, slots=True)
class FreshnessLimits:
    """The ages in seconds below which facts are fresh, may be used while they are revalidated, and
    may be used because the origin cannot be asked.
    """

    fresh: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0

    def at(self, age: float) -> Freshness:
        """What facts of this age may be used for."""
        if age < self.fresh:
            return Freshness.FRESH
        if age < self.stale_while_revalidate:
            return Freshness.STALE_WHILE_REVALIDATE
        return Freshness.STALE_IF_ERROR if age < self.stale_if_error else Freshness.EXPIRED

    def after_error(self, age: float) -> FreshnessLimits:
        """The limits of facts that are used at this age because the origin could not be asked: the
        next requests use them for as long as new ones, and do not wait for another error at once.
        """
        last = self.stale_if_error
        usable = age + self.stale_while_revalidate
        return FreshnessLimits(min(age + self.fresh, last), min(usable, last), last)


ALWAYS_ASK = FreshnessLimits()


def freshness_limits(facts: ObjectFacts, rules: FreshnessRules, *, date: float) -> FreshnessLimits:
    """The limits of facts that the origin gave at ``date``, in seconds since the epoch."""
    control = read_cache_control(facts.cache_control)
    if not control.storable or control.asks_always:
        return ALWAYS_ASK
    lifetime = control.lifetime
    if lifetime is None:
        lifetime = _until(facts.expires, date)
    lifetime = max(lifetime - facts.upstream_age, 0.0)
    stated = math.isfinite(lifetime)
    fresh = min(rules.ttl, lifetime)
    if control.never_stale:
        # Within the lifetime that it states nothing is stale, however soon we would ask again.
        at_most = lifetime if stated else fresh
        while_revalidate = min(fresh + rules.stale_while_revalidate, at_most)
        if_error = min(rules.stale_if_error, at_most)
    else:
        own = control.stale_while_revalidate
        allowed = rules.stale_while_revalidate
        while_revalidate = fresh + (allowed if own is None else min(allowed, own))
        while_revalidate = min(while_revalidate, lifetime + (own or 0.0))
        if_error = rules.stale_if_error
        if control.stale_if_error is not None:
            if_error = min(if_error, (lifetime if stated else fresh) + control.stale_if_error)
        elif control.strict:
            if_error = min(if_error, lifetime)
    return FreshnessLimits(fresh, while_revalidate if rules.ttl else 0.0, if_error)


def _until(expires: str | None, date: float) -> float:
    """The seconds that Expires leaves; 0 if it is no date (RFC 9111 §5.3)."""
    if expires is None:
        return math.inf
    end = parse_http_date(expires, now=int(date))
    return max(end - date, 0.0) if end is not None else 0.0
