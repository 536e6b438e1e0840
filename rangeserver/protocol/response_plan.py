"""The whole answer to a request for an object, decided before a byte is read or written.

:func:`plan_response` is the one place where request header fields meet object facts. Its
result says everything: status, header fields, and which bytes, in order, make the body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from rangeserver.errors import RangeUnsatisfiable
from rangeserver.protocol.disposition import (
    content_disposition,
    read_disposition,
    safe_filename,
)
from rangeserver.protocol.media_types import may_show_inline, media_type
from rangeserver.protocol.multipart import Segment, body_length, frame_byteranges
from rangeserver.protocol.preconditions import Conditions, Verdict, evaluate, range_applies
from rangeserver.protocol.ranges import (
    NONE_LAST,
    REVERSED,
    WHOLE,
    AskedRange,
    ByteSpan,
    parse_members,
    parse_range,
)
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.protocol.validators import format_http_date

SANDBOX = "default-src 'none'; sandbox"
"""Content-Security-Policy for what a browser might run rather than show."""


@dataclass(frozen=True, slots=True)
class PlanRules:
    """The operator's settings for answers."""

    max_ranges: int
    inline_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """A client's request for an object.

    ``download`` is ``None`` for inline viewing, else the wanted file name (``""``: the key's).
    """

    method: str
    conditions: Conditions
    download: str | None = None


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """A complete answer. ``body`` is empty for HEAD, 304, 412 and 416.

    ``content_length`` is in bytes; ``None`` stands for a 304, which has none. 412 and 416 leave
    their body to the error contract and carry here only the header fields that belong to them.
    """

    status: int
    headers: dict[str, str]
    body: tuple[Segment, ...] = ()
    content_length: int | None = None


def opening_range(request: ObjectRequest, rules: PlanRules) -> AskedRange | None:
    """What to read of an object without known facts, because the answer will probably need just
    that; ``None`` if its facts will probably be enough.

    One request to the origin then brings facts and bytes.
    """
    conditions = request.conditions
    if request.method != "GET" or conditions.if_none_match or conditions.if_modified_since:
        return None  # such clients mostly get a 304
    if len(conditions.range) != 1:
        return WHOLE
    members = parse_members(conditions.range[0], max_ranges=rules.max_ranges)
    if members is None:
        return WHOLE
    if len(members) > 1 or members[0] in _NEVER_SATISFIED or members[0].largest > _COUNTED:
        return None
    return members[0]


_NEVER_SATISFIED = (NONE_LAST, REVERSED)
"""Refused by facts alone; some stores would answer with the whole object."""

_COUNTED = (1 << 63) - 1
"""Larger numbers are garbage to some stores, which then send the whole object."""


def plan_response(
    request: ObjectRequest,
    facts: ObjectFacts,
    rules: PlanRules,
    *,
    now: int,
    age: int,
    new_boundary: Callable[[], str],
) -> ResponsePlan:
    """Decide the answer to a GET or HEAD of an object that exists.

    ``now`` is in seconds since the epoch, ``age`` the seconds since the origin returned the facts;
    ``new_boundary`` is called at most once, for a multipart answer. The order is that of RFC 9110
    §13.2.2: 412 before 304, and both before Range; a false If-Range hides the Range field, even a
    bad one.
    """
    verdict = evaluate(request.conditions, facts, now=now)
    if verdict is Verdict.FAILED:
        return ResponsePlan(412, {})
    # Never later than Date (RFC 9110 §8.8.2.1), though the origin's clock may be ahead.
    headers = {"Age": str(age), **_validator_headers(facts, min(facts.last_modified or 0, now))}
    if verdict is Verdict.NOT_MODIFIED:
        return ResponsePlan(304, headers)
    headers |= _representation_headers(request.download, facts, rules.inline_types)
    spans = _asked_spans(request, facts, rules, now)
    if spans is None:
        return _whole(request, facts, headers)
    if not spans:
        return ResponsePlan(416, RangeUnsatisfiable.fields(facts.size))
    if len(spans) == 1:
        headers["Content-Range"] = spans[0].content_range(facts.size)
        return ResponsePlan(206, headers, spans, spans[0].length)
    boundary = new_boundary()
    body = frame_byteranges(
        spans, size=facts.size, content_type=headers["Content-Type"], boundary=boundary
    )
    headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    return ResponsePlan(206, headers, body, body_length(body))


def _whole(request: ObjectRequest, facts: ObjectFacts, headers: dict[str, str]) -> ResponsePlan:
    body = (ByteSpan(0, facts.size),) if request.method == "GET" and facts.size else ()
    return ResponsePlan(200, headers, body, facts.size)


def _asked_spans(
    request: ObjectRequest, facts: ObjectFacts, rules: PlanRules, now: int
) -> tuple[ByteSpan, ...] | None:
    """The spans to send, ``()`` if none can be satisfied, ``None`` for the whole object."""
    # Range is defined for GET alone (RFC 9110 §14.2), and is no list: two lines mean nothing.
    if request.method != "GET" or len(request.conditions.range) != 1:
        return None
    if not range_applies(request.conditions, facts, now=now):
        return None
    spans = parse_range(request.conditions.range[0], facts.size, max_ranges=rules.max_ranges)
    if spans is not None and len(spans) > 1 and facts.content_encoding is not None:
        return None  # in the head of a multipart answer the coding would include the framing
    return spans


@lru_cache(maxsize=1024)  # few objects at a time, each many times
def _validator_headers(facts: ObjectFacts, last_modified: int) -> Mapping[str, str]:
    """The fields a 304 must repeat (RFC 9110 §15.4.5); Date comes from the server."""
    headers = {"ETag": facts.etag, "Accept-Ranges": "bytes"}
    if facts.last_modified is not None:
        headers["Last-Modified"] = format_http_date(last_modified)
    if facts.cache_control is not None:
        headers["Cache-Control"] = facts.cache_control
    if facts.expires is not None:
        headers["Expires"] = facts.expires
    return headers


@lru_cache(maxsize=1024)
def _representation_headers(
    download: str | None, facts: ObjectFacts, inline_types: tuple[str, ...]
) -> Mapping[str, str]:
    """The fields that describe the representation, the same on 200 and 206."""
    content_type = media_type(facts.key, facts.content_type)
    headers = {"Content-Type": content_type, "X-Content-Type-Options": "nosniff"}
    if facts.content_encoding is not None:
        headers["Content-Encoding"] = facts.content_encoding
    if facts.content_language is not None:
        headers["Content-Language"] = facts.content_language
    active = not may_show_inline(content_type, inline_types)
    if active:
        headers["Content-Security-Policy"] = SANDBOX
    disposition = _disposition(download, facts, force_attachment=active)
    if disposition is not None:
        headers["Content-Disposition"] = disposition
    return headers


def _disposition(download: str | None, facts: ObjectFacts, *, force_attachment: bool) -> str | None:
    stored = read_disposition(facts.content_disposition or "")
    if download is not None:
        filename = safe_filename(download)
    elif force_attachment:
        filename = stored[1] if stored is not None else ""
    else:
        return content_disposition(*stored) if stored is not None else None
    return content_disposition("attachment", filename or safe_filename(facts.key))
