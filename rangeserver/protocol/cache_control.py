"""An object's Cache-Control field, as a cache that many share reads it (RFC 9111 §5.2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

# A token and perhaps a value, which may be quoted and hold commas then.
_DIRECTIVE = re.compile(
    r"""[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=("(?:[^"\\]|\\.)*"|[^,\s]*))?[^,]*"""
)
_SECONDS = re.compile(r'"?([0-9]{1,10})"?')

_MAX_SECONDS = 2**31
"""Larger numbers mean this (RFC 9111 §1.2.2)."""


@dataclass(frozen=True, slots=True)
class CacheControl:
    """What the directives allow, those of RFC 5861 among them; times in seconds, ``None`` where
    nothing is said.

    ``storable``: it may be kept. ``asks_always``: nothing is told of it without asking the origin.
    ``lifetime`` is for how long it is fresh; ``never_stale``: once that is over nothing is told of
    it without asking, and with ``strict`` nothing beyond the two fields that follow: for how much
    longer it may be told while it is asked for in the background, or while that cannot be done.
    """

    storable: bool = True
    asks_always: bool = False
    never_stale: bool = False
    strict: bool = False
    lifetime: float | None = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None


@lru_cache(maxsize=1024)  # of few objects at a time, and all of a bucket often have the same
def read_cache_control(value: str | None) -> CacheControl:
    """What a field says. A directive that names fields counts as if it named none."""
    said: dict[str, list[str]] = {}
    for name, argument in _DIRECTIVE.findall(value or ""):
        said.setdefault(name.lower(), []).append(argument)
    shared = _seconds(said, "s-maxage")
    return CacheControl(
        storable=said.keys().isdisjoint({"no-store", "private"}),
        asks_always="no-cache" in said,
        never_stale=not said.keys().isdisjoint({"must-revalidate", "proxy-revalidate"}),
        strict=shared is not None,  # s-maxage means proxy-revalidate as well (§5.2.2.10)
        lifetime=shared if shared is not None else _seconds(said, "max-age"),
        stale_while_revalidate=_seconds(said, "stale-while-revalidate"),
        stale_if_error=_seconds(said, "stale-if-error"),
    )


def may_be_stored(cache_control: str | None) -> bool:
    """Whether its bytes may be kept at all (RFC 9111 §5.2.2.5, §5.2.2.7)."""
    return read_cache_control(cache_control).storable


def _seconds(said: dict[str, list[str]], name: str) -> float | None:
    """The least of the values; one that is none counts as 0 (RFC 9111 §4.2.1)."""
    if name not in said:
        return None
    found = [_SECONDS.fullmatch(text) for text in said[name]]
    return float(min(min(int(match[1]), _MAX_SECONDS) if match else 0 for match in found))
