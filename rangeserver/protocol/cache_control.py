"""An object's Cache-Control field, as a shared cache reads it (RFC 9111 §5.2.2)."""

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
    """What the directives allow, those of RFC 5861 among them. Times are in seconds, ``None`` where
    no directive sets one.

    ``storable``: the object may be stored. ``asks_always``: it may not be used without asking the
    origin. ``lifetime``: for how long it is fresh. ``never_stale``: it may not be used after that.
    ``strict``: it may be used after that only as the two ``stale_`` fields allow, which are for how
    much longer it may be used while it is revalidated, and while the origin cannot be asked.
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
    """Parse a field. A directive that names fields counts as if it named none."""
    directives: dict[str, list[str]] = {}
    for name, argument in _DIRECTIVE.findall(value or ""):
        directives.setdefault(name.lower(), []).append(argument)
    shared = _seconds(directives, "s-maxage")
    return CacheControl(
        storable=directives.keys().isdisjoint({"no-store", "private"}),
        asks_always="no-cache" in directives,
        never_stale=not directives.keys().isdisjoint({"must-revalidate", "proxy-revalidate"}),
        strict=shared is not None,  # s-maxage means proxy-revalidate as well (§5.2.2.10)
        lifetime=shared if shared is not None else _seconds(directives, "max-age"),
        stale_while_revalidate=_seconds(directives, "stale-while-revalidate"),
        stale_if_error=_seconds(directives, "stale-if-error"),
    )


def may_be_stored(cache_control: str | None) -> bool:
    """Whether an object may be stored at all (RFC 9111 §5.2.2.5, §5.2.2.7)."""
    return read_cache_control(cache_control).storable


def _seconds(directives: dict[str, list[str]], name: str) -> float | None:
    """The smallest of the values; one that is no number counts as 0 (RFC 9111 §4.2.1)."""
    if name not in directives:
        return None
    found = [_SECONDS.fullmatch(text) for text in directives[name]]
    return float(min(min(int(match[1]), _MAX_SECONDS) if match else 0 for match in found))
