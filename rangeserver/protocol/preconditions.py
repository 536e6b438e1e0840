"""Preconditions: whether a request is performed at all, and whether its Range is used.

The order is that of RFC 9110 §13.2.2; each condition is its own small function.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from rangeserver.protocol.representation import ObjectFacts
from rangeserver.protocol.validators import parse_entity_tag, parse_entity_tags, parse_http_date

Values = tuple[str, ...]
"""The lines of one header field, in order; empty when the field is absent."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The header fields that make a request conditional or partial, line by line."""

    if_match: Values = ()
    if_none_match: Values = ()
    if_modified_since: Values = ()
    if_unmodified_since: Values = ()
    if_range: Values = ()
    range: Values = ()

    def any_but_range(self) -> bool:
        """Whether anything here has to be compared with an object's facts."""
        return bool(
            self.if_match
            or self.if_none_match
            or self.if_modified_since
            or self.if_unmodified_since
            or self.if_range
        )


class Verdict(Enum):
    """What the preconditions decide."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    FAILED = auto()


def evaluate(conditions: Conditions, facts: ObjectFacts, *, now: int) -> Verdict:
    """Evaluate all preconditions of a GET or HEAD (RFC 9110 §13.2.2, steps 1 to 4)."""
    if conditions.if_match:
        if not _if_match(conditions.if_match, facts):
            return Verdict.FAILED
    elif not _if_unmodified_since(conditions.if_unmodified_since, facts, now):
        return Verdict.FAILED
    if conditions.if_none_match:
        if not _if_none_match(conditions.if_none_match, facts):
            return Verdict.NOT_MODIFIED
    elif not _if_modified_since(conditions.if_modified_since, facts, now):
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def range_applies(conditions: Conditions, facts: ObjectFacts, *, now: int) -> bool:
    """Whether the Range field is used, given If-Range (RFC 9110 §13.1.5); true without If-Range."""
    if not conditions.if_range:
        return True
    if len(conditions.if_range) != 1:
        return False
    value = conditions.if_range[0]
    tag = parse_entity_tag(value)
    if tag is not None:
        return tag.matches_strongly(facts.entity_tag)
    date = parse_http_date(value, now=now)
    if date is None or date != facts.last_modified:
        return False
    # A date is a strong validator only once a second has passed in which the object could
    # have changed again unseen (RFC 9110 §8.8.2.2).
    return now - date >= 1


def _if_match(lines: Values, facts: ObjectFacts) -> bool:
    value = ", ".join(lines)
    if value.strip() == "*":
        return True
    return any(tag.matches_strongly(facts.entity_tag) for tag in parse_entity_tags(value))


def _if_none_match(lines: Values, facts: ObjectFacts) -> bool:
    value = ", ".join(lines)
    # Nearly always it is exactly the tag that was sent, and needs no parsing.
    if value == facts.etag or value.strip() == "*":
        return False
    return not any(tag.matches_weakly(facts.entity_tag) for tag in parse_entity_tags(value))


def _if_modified_since(lines: Values, facts: ObjectFacts, now: int) -> bool:
    date = _single_date(lines, now)
    return date is None or facts.last_modified is None or facts.last_modified > date


def _if_unmodified_since(lines: Values, facts: ObjectFacts, now: int) -> bool:
    date = _single_date(lines, now)
    return date is None or facts.last_modified is None or facts.last_modified <= date


def _single_date(lines: Values, now: int) -> int | None:
    """The date of a field that holds one; with anything else in it, the field is ignored."""
    return parse_http_date(lines[0], now=now) if len(lines) == 1 else None
