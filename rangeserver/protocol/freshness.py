"""For how long what the origin has told of an object may be told to clients (RFC 9111 §4.2).

The one decision of it, for facts in memory and for those in files. It is about ages: seconds since
the origin told them. In a process these are measured by a monotonic clock, from one process to
another by the wall clock; whatever passes facts on says how old they are, so that nobody believes
them anew.

The configuration says how long they are believed, and an object can only ask for less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rangeserver.protocol.cache_control import read_cache_control
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.protocol.validators import parse_http_date


@dataclass(frozen=True, slots=True)
class BeliefRules:
    """What the operator allows, in seconds: without asking; for so much longer, while the origin
    is being asked; and in all, while it cannot be asked.
    """

    ttl: float
    while_asking: float = 0.0
    if_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Belief:
    """The ages below which facts may be told: without asking the origin; while it is being asked in
    the background; while it cannot be asked.
    """

    fresh: float = 0.0
    while_asking: float = 0.0
    if_error: float = 0.0


NONE = Belief()


def belief(facts: ObjectFacts, rules: BeliefRules, *, date: float) -> Belief:
    """How long facts may be told that the origin told at ``date``, in seconds since the epoch."""
    said = read_cache_control(facts.cache_control)
    if not said.storable or said.asks_always:
        return NONE
    lifetime = said.lifetime
    if lifetime is None:
        lifetime = _until(facts.expires, date)
    lifetime = max(lifetime - facts.upstream_age, 0.0)
    stated = math.isfinite(lifetime)
    fresh = min(rules.ttl, lifetime)
    if said.never_stale:
        # Within the lifetime that it states nothing is stale, however soon we would ask again.
        at_most = lifetime if stated else fresh
        while_asking = min(fresh + rules.while_asking, at_most)
        if_error = min(rules.if_error, at_most)
    else:
        own = said.stale_while_revalidate
        while_asking = fresh + (rules.while_asking if own is None else min(rules.while_asking, own))
        while_asking = min(while_asking, lifetime + (own or 0.0))
        if_error = rules.if_error
        if said.stale_if_error is not None:
            if_error = min(if_error, (lifetime if stated else fresh) + said.stale_if_error)
        elif said.strict:
            if_error = min(if_error, lifetime)
    return Belief(fresh, while_asking if rules.ttl else 0.0, if_error)


def _until(expires: str | None, date: float) -> float:
    """The seconds that Expires leaves. What is no date is over (RFC 9111 §5.3)."""
    if expires is None:
        return math.inf
    end = parse_http_date(expires, now=int(date))
    return max(end - date, 0.0) if end is not None else 0.0
