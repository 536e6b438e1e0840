"""Entity tags and HTTP dates (RFC 9110 §8.8, §5.6.7): reading and comparing them."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

# etagc is VCHAR without the double quote, or obs-text (RFC 9110 §8.8.3).
_ENTITY_TAG = re.compile(r'(W/)?"([^\x00-\x20"\x7f]*)"')
_MAX_TAGS = 256
"""The most tags that are read of a list: a request can hold hundreds of thousands."""

_LIST_SEPARATOR = re.compile(r"[ \t,]*")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAYS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_LONG_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_DATE_FORMS = (
    re.compile(rf"(?:{_DAYS}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"(?:{_LONG_DAYS}), (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"(?:{_DAYS}) {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


@dataclass(frozen=True, slots=True)
class EntityTag:
    """An entity tag: its opaque text without quotes, and whether it is weak."""

    opaque: str
    weak: bool = False

    def matches_strongly(self, other: EntityTag) -> bool:
        """Strong comparison: equal and neither is weak (RFC 9110 §8.8.3.2)."""
        return not self.weak and not other.weak and self.opaque == other.opaque

    def matches_weakly(self, other: EntityTag) -> bool:
        """Weak comparison: the opaque texts are equal (RFC 9110 §8.8.3.2)."""
        return self.opaque == other.opaque


def parse_entity_tag(value: str) -> EntityTag | None:
    """Read one entity tag; ``None`` when the text is not exactly that."""
    match = _ENTITY_TAG.fullmatch(value)
    return EntityTag(match[2], weak=match[1] is not None) if match else None


def parse_entity_tags(value: str) -> tuple[EntityTag, ...]:
    """Read a list of entity tags up to the first malformed member, at most 256.

    A comma inside a tag is part of the tag, so the list cannot be split at commas. After a
    malformed member it is not clear where the next one begins, so the rest is ignored.
    """
    tags: list[EntityTag] = []
    position = 0
    while len(tags) < _MAX_TAGS:
        separator = _LIST_SEPARATOR.match(value, position)
        if separator is not None:
            if tags and "," not in separator[0]:
                return tuple(tags)
            position = separator.end()
        match = _ENTITY_TAG.match(value, position)
        if match is None:
            return tuple(tags)
        tags.append(EntityTag(match[2], weak=match[1] is not None))
        position = match.end()
    return tuple(tags)


def parse_http_date(value: str, *, now: int) -> int | None:
    """Seconds since the epoch for any of the three forms a recipient must accept.

    ``now`` (seconds since the epoch) settles the century of the two-digit form: a date more
    than 50 years ahead is one of the past (RFC 9110 §5.6.7). ``None`` for anything else.
    """
    for form in _DATE_FORMS:
        match = form.fullmatch(value)
        if match is not None:
            break
    else:
        return None
    year, day = int(match["year"]), int(match["day"])
    month = _MONTHS.index(match["month"]) + 1
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if len(match["year"]) == 2:
        this_year = int(formatdate(now, usegmt=True)[12:16])
        year += this_year - this_year % 100
        if calendar.timegm((year - 50, month, day, hour, minute, second)) > now:
            year -= 100
    if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    if hour > 23 or minute > 59 or second > 60:  # 60 is a leap second
        return None
    return calendar.timegm((year, month, day, hour, minute, second, 0, 0, 0))


@lru_cache(maxsize=1024)  # few objects at a time, each many times
def format_http_date(seconds: int) -> str:
    """The IMF-fixdate for this many seconds since the epoch (RFC 9110 §5.6.7)."""
    return formatdate(seconds, usegmt=True)
