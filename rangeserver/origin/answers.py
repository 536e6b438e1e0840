"""Is an answer what was asked for, provably? Nothing of it is used before that is clear.

S3-compatible servers are known to answer 200 to a range, to ignore If-Match, and to send an
error document with status 200.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

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

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")


def facts_of(key: ObjectKey, headers: Mapping[str, str], size: int | None) -> ObjectFacts:
    """The facts that an answer tells of an object of ``size`` bytes."""
    if size is None:
        msg = "the answer does not tell the object's size"
        raise OriginProtocolError(msg)
    try:
        return facts_from_headers(key, size, headers, now=int(time.time()))
    except ValueError as error:
        raise OriginProtocolError(str(error)) from error


def described(key: ObjectKey, answer: Answer) -> ObjectFacts:
    """The facts in the answer to a HEAD."""
    if answer.status != 200:
        msg = f"HEAD answered {answer.status}, expected 200"
        raise OriginProtocolError(msg)
    return facts_of(key, answer.headers, whole_number(answer.headers.get("content-length")))


def total_size(headers: Mapping[str, str]) -> int | None:
    """The size of the object that a Content-Range is of."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    return int(match[3]) if match is not None else None


def opened_span(answer: Answer, wanted: AskedRange | None) -> tuple[int, ByteSpan] | None:
    """The object's size, and which of its bytes an answer to ``wanted`` carries (``None``: to
    a request for all of it). ``None`` if the answer does not say; anything but the bytes asked
    for raises :class:`OriginProtocolError`.
    """
    headers = answer.headers
    length = whole_number(headers.get("content-length"))
    told = headers.get("content-range")
    # On a 200 that no range was asked for Content-Range has no meaning (RFC 9110 §14.4).
    if answer.status == 200 and (told is None or wanted is None):
        if length is None or (not length and wanted is not None):
            return None  # some stores have an empty 200 for any range of an empty object
        size, span = length, ByteSpan(0, length)
    else:
        match = _CONTENT_RANGE.fullmatch(told or "")
        if match is None or (answer.status != 206 and length is None):
            raise _unexpected(answer, wanted, None)
        size, span = int(match[3]), ByteSpan(int(match[1]), int(match[2]) + 1)
    expected = ByteSpan(0, size) if wanted is None else wanted.span(size)
    empty = not size and wanted is None
    if span != expected or length not in {None, span.length} or (not span.length and not empty):
        raise _unexpected(answer, wanted, expected)
    return size, span


def check_read(answer: Answer, facts: ObjectFacts, span: ByteSpan) -> None:
    """Refuse an answer that is not these bytes of this version."""
    headers = answer.headers
    etag = headers.get("etag")
    if etag is not None and etag != facts.etag:
        msg = f"asked for version {facts.etag}, got {etag}"
        raise ObjectChanged(msg, headers=RETRY_AFTER)
    asked = AskedRange(span.start, span.stop - 1)
    opened = opened_span(answer, asked)
    same_coding = stored_coding(headers) == facts.content_encoding
    if etag is None or not same_coding or (opened or (0, span)) != (facts.size, span):
        raise _unexpected(answer, asked, span)


def _unexpected(
    answer: Answer, wanted: AskedRange | None, expected: ByteSpan | None
) -> OriginProtocolError:
    names = ("etag", "content-length", "content-range", "content-encoding")
    got = {name: value for name in names if (value := answer.headers.get(name)) is not None}
    asked = "all" if wanted is None else wanted.range_header()
    wish = f", expected {expected.start}-{expected.stop - 1}" if expected is not None else ""
    return OriginProtocolError(f"asked for {asked}: answer {answer.status} {got}{wish}")
