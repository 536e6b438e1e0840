"""Checks that an answer is what was asked for. Nothing of it is used before that.

Some S3-compatible stores answer 200 to a range, ignore If-Match, or send an error document with
status 200.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rangeserver.errors import ObjectChanged, OriginProtocolError
from rangeserver.origin.asking import Answer
from rangeserver.origin.translate import RETRY_AFTER, whole_number
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import (
    ObjectFacts,
    ObjectKey,
    facts_from_headers,
    stored_coding,
)

# A range without bytes ends before it begins: at the end of an object, or in an empty one.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-(-1|[0-9]{1,19})/([0-9]{1,19}|\*)")


@dataclass(frozen=True, slots=True)
class Carried:
    """What an answer carries: the size of the object, the bytes of it that were asked for, and how
    many more follow them.
    """

    size: int
    span: ByteSpan
    surplus: int = 0


def facts_of(key: ObjectKey, headers: Mapping[str, str], size: int | None) -> ObjectFacts:
    """The facts in the header of an answer about an object of ``size`` bytes."""
    if size is None:
        msg = "the answer does not tell the object's size"
        raise OriginProtocolError(msg)
    try:
        return facts_from_headers(
            key, size, headers, now=int(time.time()), validated_at=time.monotonic()
        )
    except ValueError as error:
        raise OriginProtocolError(str(error)) from error


def described(key: ObjectKey, answer: Answer) -> ObjectFacts:
    """The facts in the answer to a HEAD."""
    if answer.status != 200:
        msg = f"HEAD answered {answer.status}, expected 200"
        raise OriginProtocolError(msg)
    return facts_of(key, answer.headers, whole_number(answer.headers.get("content-length")))


def total_size(headers: Mapping[str, str]) -> int | None:
    """The size of the object, from Content-Range."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return whole_number(match[3]) if match is not None else None


def opened_span(
    answer: Answer, wanted: AskedRange | None, size: int | None = None
) -> Carried | None:
    """What the answer to a request for ``wanted`` carries (``None``: the whole object); ``size`` is
    that of the object, if known.

    Returns ``None`` if the answer leaves that open and a HEAD has to settle it: some stores tell no
    total, some answer a range that cannot be satisfied with no bytes. Raises
    :class:`OriginProtocolError` unless it is the bytes asked for, perhaps with others after them.
    """
    headers = answer.headers
    length = whole_number(headers.get("content-length"))
    given = headers.get("content-range")
    # On a 200 to a request without Range, Content-Range has no meaning (RFC 9110 §14.4).
    if answer.status == 200 and (given is None or wanted is None):
        if length is None or (not length and wanted is not None):
            return None
        total, span = length, ByteSpan(0, length)
    else:
        match = _CONTENT_RANGE.fullmatch(given or "")
        # Some stores send a part as 200, with its length. A 204 has no body, whatever it says.
        is_part = answer.status == 206 or (answer.status == 200 and length is not None)
        if match is None or not is_part:
            raise _unexpected(answer, wanted, None)
        known = size if match[3] == "*" else int(match[3])
        if known is None:
            return None
        total, span = known, ByteSpan(int(match[1]), int(match[2]) + 1)
    expected = ByteSpan(0, total) if wanted is None else wanted.span(total)
    if wanted is not None and not expected.length:
        return None
    surplus = span.stop - expected.stop
    goes_on = span.start == expected.start and surplus >= 0 and span.stop <= total
    if given is None and surplus:
        goes_on = False  # a store without ranges, which would send the whole object each time
    if not goes_on or length not in {None, span.length}:
        raise _unexpected(answer, wanted, expected)
    return Carried(total, expected, surplus)


def check_read(answer: Answer, facts: ObjectFacts, span: ByteSpan) -> Carried:
    """What an answer carries, if it is this span of this version. Raises an error otherwise."""
    headers = answer.headers
    etag = headers.get("etag")
    if etag is not None and etag != facts.etag:
        msg = f"asked for version {facts.etag}, got {etag}"
        raise ObjectChanged(msg, headers=RETRY_AFTER)
    asked = AskedRange(span.start, span.stop - 1)
    carried = opened_span(answer, asked, facts.size)
    same_coding = stored_coding(headers) == facts.content_encoding
    if (
        carried is None
        or etag is None
        or not same_coding
        or (carried.size, carried.span) != (facts.size, span)
    ):
        raise _unexpected(answer, asked, span)
    return carried


def _unexpected(
    answer: Answer, wanted: AskedRange | None, expected: ByteSpan | None
) -> OriginProtocolError:
    names = ("etag", "content-length", "content-range", "content-encoding")
    got = {name: value for name in names if (value := answer.headers.get(name)) is not None}
    asked = "all" if wanted is None else wanted.range_header()
    wish = f", expected {expected.start}-{expected.stop - 1}" if expected is not None else ""
    return OriginProtocolError(f"asked for {asked}: answer {answer.status} {got}{wish}")
