"""The Range header field (RFC 9110 §14): from its text to half-open spans of bytes.

Inclusive ends exist only in this parser and in ``Content-Range``; everywhere else a range
is a :class:`ByteSpan`, which excludes its stop.

The work is linear in the length of the field but for one sort over at most ``max_ranges``
members, and no number is converted before its digits are counted: the field is the classic
way to make a server spend much for little (CVE-2011-3192, CVE-2025-62727).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

COALESCE_GAP_BYTES = 80
"""Parts closer than this are joined: what separates two parts costs about as much as the gap
(RFC 9110 §15.3.7.2 suggests joining when the gap is smaller than that overhead)."""

_MAX_DIGITS = 19
"""Numbers with more digits are all "beyond any object" (S3's largest is 5 TB, 13 digits)."""

_BEYOND = 10_000_000_000_000_000_000

_MEMBER = re.compile(r"([0-9]*)-([0-9]*)")
_PLAIN = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")


@dataclass(frozen=True, slots=True, order=True)
class ByteSpan:
    """The bytes ``start <= offset < stop`` of a representation."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """The Content-Range value for this span of ``size`` bytes (RFC 9110 §14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"

    def range_header(self) -> str:
        """The Range value that asks for just this span."""
        return f"bytes={self.start}-{self.stop - 1}"


@dataclass(frozen=True, slots=True)
class AskedRange:
    """One member of a Range field, before the size of the representation is known.

    ``first`` and ``last`` are the inclusive positions as they are written; a suffix range, the
    last so many bytes, has no ``first``.
    """

    first: int | None
    last: int | None

    @property
    def largest(self) -> int:
        """The largest number in it."""
        return max(self.first or 0, self.last or 0)

    def span(self, size: int) -> ByteSpan:
        """What it means for ``size`` bytes; a span without length if it cannot be satisfied."""
        if self.first is None:
            return ByteSpan(max(size - (self.last or 0), 0), size)
        start = min(self.first, size)
        return ByteSpan(start, size if self.last is None else min(self.last + 1, size))

    def range_header(self) -> str:
        """The Range value that asks for it."""
        first = "" if self.first is None else str(self.first)
        return f"bytes={first}-{'' if self.last is None else self.last}"


WHOLE = AskedRange(0, None)
"""All of a representation, of unknown size."""

NONE_LAST = AskedRange(None, 0)
"""``bytes=-0``: valid, and satisfied by no representation."""

REVERSED = AskedRange(1, 0)
"""Any first position after its last: invalid (RFC 9110 §14.1.1), and satisfied by none either."""


def parse_range(value: str, size: int, *, max_ranges: int) -> tuple[ByteSpan, ...] | None:
    """What a GET with this Range value is to receive of a representation of ``size`` bytes.

    Returns ``None`` when the field is to be ignored, so that the whole representation is the
    answer: another unit, anything malformed, an empty representation, more than ``max_ranges``
    members, or members that together ask for more than there is (RFC 9110 §14.2, §17.15).
    Returns ``()`` when the field is valid and nothing in it can be satisfied: 416; so too for a
    single reversed range, which would otherwise cost the whole representation each time.
    Otherwise the satisfiable spans, clamped, with overlaps and small gaps joined, in the order
    in which the client first asked for them.
    """
    asked = parse_members(value, max_ranges=max_ranges)
    if asked is None or size == 0:
        return None
    spans = [span for member in asked if (span := member.span(size)).length > 0]
    if len(spans) < 2:
        return tuple(spans)
    if sum(span.length for span in spans) > size:
        return None
    return _coalesce(spans)


def plain_span(value: str, size: int) -> ByteSpan | None:
    """The one span that :func:`parse_range` returns for a Range value of the usual form, a first
    position and perhaps a last; ``None`` if it has to be asked.
    """
    match = _PLAIN.fullmatch(value)
    if match is None:
        return None
    first, last = match.groups()
    start = int(first)
    stop = min(int(last) + 1, size) if last else size
    return ByteSpan(start, stop) if start < stop else None


@lru_cache(maxsize=16)  # asked twice for each request
def parse_members(value: str, *, max_ranges: int) -> tuple[AskedRange, ...] | None:
    """The members of a Range value, at least one; ``None`` when the field is to be ignored."""
    unit, equals, members = value.partition("=")
    if not equals or unit.lower() != "bytes" or members.count(",") >= max_ranges:
        return None
    # Recipients must accept empty list members (RFC 9110 §5.6.1.2).
    texts = [text for member in members.split(",") if (text := member.strip(" \t"))]
    asked = tuple([member for text in texts if (member := _parse_member(text)) is not None])
    if not asked or len(asked) < len(texts) or (len(asked) > 1 and REVERSED in asked):
        return None
    return asked


def _parse_member(text: str) -> AskedRange | None:
    match = _MEMBER.fullmatch(text)
    if match is None or text == "-":
        return None
    first, last = match.groups()
    if first and last and _greater(first, last):
        return REVERSED
    return AskedRange(_bounded(first) if first else None, _bounded(last) if last else None)


def _greater(left: str, right: str) -> bool:
    """Whether one number is above another."""
    left, right = left.lstrip("0"), right.lstrip("0")
    return (len(left), left) > (len(right), right)


def _bounded(digits: str) -> int:
    """The number of these digits, or one beyond any object if there are too many."""
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _MAX_DIGITS else _BEYOND


def _coalesce(spans: list[ByteSpan]) -> tuple[ByteSpan, ...]:
    """Join spans that overlap or nearly touch; each result stands where its first part stood."""
    merged: list[tuple[int, ByteSpan]] = []  # (place first asked, span), by ascending start
    for place, span in sorted(enumerate(spans), key=lambda item: item[1]):
        if merged and span.start - merged[-1][1].stop < COALESCE_GAP_BYTES:
            first_place, before = merged[-1]
            joined = ByteSpan(before.start, max(before.stop, span.stop))
            merged[-1] = (min(first_place, place), joined)
        else:
            merged.append((place, span))
    return tuple(span for _, span in sorted(merged))
