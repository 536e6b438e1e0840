"""What an object's Cache-Control field allows a cache that many share (RFC 9111 §5.2.2).

How long facts are fresh is for the configuration to say; an object can only ask for less.
"""

from __future__ import annotations


def may_be_stored(cache_control: str | None) -> bool:
    """Whether its bytes may be kept at all (RFC 9111 §5.2.2.5, §5.2.2.7)."""
    return _directives(cache_control).isdisjoint({"no-store", "private"})


def may_be_believed(cache_control: str | None) -> bool:
    """Whether anything may be told of it without asking the origin first (RFC 9111 §5.2.2.4)."""
    return "no-cache" not in _directives(cache_control)


def may_be_stale(cache_control: str | None) -> bool:
    """Whether it may be told of when its time is over (RFC 9111 §4.2.4)."""
    forbidding = {"no-cache", "must-revalidate", "proxy-revalidate"}
    return _directives(cache_control).isdisjoint(forbidding)


def _directives(cache_control: str | None) -> set[str]:
    """The names of the directives. One that names fields counts as if it named none."""
    members = (cache_control or "").split(",")
    return {member.partition("=")[0].strip().lower() for member in members}
