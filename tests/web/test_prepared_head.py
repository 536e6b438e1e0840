"""Prepared heads are those of planned responses."""

from __future__ import annotations

import pytest
from aiohttp import HttpVersion11

from rangeserver.protocol.preconditions import Conditions
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.protocol.response_plan import (
    ObjectRequest,
    PlanRules,
    ResponsePlan,
    plan_response,
)
from rangeserver.web.exchange import own_fields
from rangeserver.web.prepared_head import PreparedHead
from rangeserver.web.range_response import head_of

NOW = 1_790_000_000

PLAIN = ObjectFacts(ObjectKey("a.mp4"), 1000, '"v1"')
RICH = ObjectFacts(
    ObjectKey("dir/a %s%d.html"),
    123_456_789_012,
    '"100%-%s-%d Content-Length: 1"',
    last_modified=NOW + 100,
    content_type="text/html; charset=utf-8",
    content_encoding="gzip",
    content_language="ko",
    content_disposition="inline; filename=%d.html",
    cache_control="max-age=60, x=%s",
    expires="Content-Range: bytes 0-0/1",
)


def planned_head(plan: ResponsePlan) -> bytes:
    fields = {**own_fields("some-id"), **plan.headers}
    return head_of(plan.status, fields, plan.content_length, HttpVersion11, keep_alive=True)


@pytest.mark.parametrize("facts", [PLAIN, RICH], ids=["plain", "rich"])
@pytest.mark.parametrize("download", [None, "", "한 %s.mp4"])
@pytest.mark.parametrize("span", [None, ByteSpan(0, 1), ByteSpan(7, 1000), ByteSpan(999, 1000)])
def test_a_head_is_that_of_the_plan(
    monkeypatch: pytest.MonkeyPatch,
    facts: ObjectFacts,
    download: str | None,
    span: ByteSpan | None,
) -> None:
    monkeypatch.setattr("time.time", lambda: NOW + 0.9)
    rules = PlanRules(5, ("video/*",))
    ranges = () if span is None else (f"bytes={span.start}-{span.stop - 1}",)
    request = ObjectRequest("GET", Conditions(range=ranges), download)
    plan = plan_response(request, facts, rules, now=NOW, age=7, new_boundary=str)
    head = planned_head(plan)
    prepared = PreparedHead(facts, rules, download, now=NOW, age=7)
    known = ObjectRequest("GET", Conditions(if_none_match=(facts.etag,)), download)
    same = plan_response(known, facts, rules, now=NOW, age=7, new_boundary=str)
    assert prepared.not_modified("some-id") == planned_head(same)
    assert (prepared.whole("some-id") if span is None else prepared.part("some-id", span)) == head
