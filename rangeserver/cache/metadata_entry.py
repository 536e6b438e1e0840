"""Facts in the metadata cache, and for how long they may be used."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from rangeserver.protocol.freshness import (
    Freshness,
    FreshnessLimits,
    FreshnessRules,
    freshness_limits,
)
from rangeserver.protocol.representation import ObjectFacts


@dataclass(frozen=True, slots=True)
class MetadataEntry:
    """Facts and their limits. ``now`` is by the monotonic clock."""

    facts: ObjectFacts
    limits: FreshnessLimits

    @property
    def size_bytes(self) -> int:
        """The length of all texts, which is about what it takes of memory."""
        return sum(len(value) for value in astuple(self.facts) if isinstance(value, str))

    def is_fresh(self, now: float) -> bool:
        """Whether the facts may be used without asking the origin."""
        return now - self.facts.validated_at < self.limits.fresh

    def is_usable(self, now: float) -> bool:
        """Whether they may be used at least while they are revalidated."""
        usable = (Freshness.FRESH, Freshness.STALE_WHILE_REVALIDATE)
        return self.limits.at(now - self.facts.validated_at) in usable


def entry_of(
    facts: ObjectFacts, rules: FreshnessRules, *, now: float, wall_now: float
) -> MetadataEntry:
    """An entry of facts that a lookup has just returned; ``wall_now`` in seconds since the epoch.

    They may be stale already, if the origin could not be asked.
    """
    age = max(now - facts.validated_at, 0.0)
    limits = freshness_limits(facts, rules, date=max(wall_now - age, 0.0))
    entry = MetadataEntry(facts, limits)
    return entry if entry.is_usable(now) else MetadataEntry(facts, limits.after_error(age))
