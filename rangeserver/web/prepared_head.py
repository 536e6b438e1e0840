"""Response heads whose lines stand already, but for the few that differ from request to request.

They are those of a :class:`.RangeResponse`: made by the same plan, and some of the lines are then
left open. For a second, for Date and Age are among those that stand.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import HttpVersion11, hdrs

from rangeserver.protocol.preconditions import Conditions
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.protocol.response_plan import (
    ObjectRequest,
    PlanRules,
    ResponsePlan,
    plan_response,
)
from rangeserver.web.exchange import REQUEST_ID, own_fields
from rangeserver.web.range_response import head_of

_SOME_ID = "0"


class PreparedHead:
    """The heads of answers, in HTTP/1.1 on a connection that goes on, about a version that has
    ``facts``: of all of it, of one span, and to one who has it, within the second ``now``.
    """

    __slots__ = ("_age", "_not_modified", "_part", "_whole", "facts", "now")

    def __init__(
        self, facts: ObjectFacts, rules: PlanRules, download: str | None, *, now: int, age: int
    ) -> None:
        self.facts = facts
        self.now = now
        self._age = age
        self._not_modified: str | None = None
        whole = _plan(facts, rules, download, Conditions(), now, age)
        self._whole = _left_open(whole, {})
        sample = _plan(facts, rules, download, Conditions(range=("bytes=0-0",)), now, age)
        ranged = f"bytes %d-%d/{facts.size}"
        self._part = _left_open(sample, {hdrs.CONTENT_RANGE: ranged, hdrs.CONTENT_LENGTH: "%d"})

    def whole(self, request_id: str) -> bytes:
        """The head of the answer that has all of it."""
        return (self._whole % request_id).encode()

    def part(self, request_id: str, span: ByteSpan) -> bytes:
        """The head of the answer that has just ``span``."""
        start, stop = span.start, span.stop
        return (self._part % (request_id, start, stop - 1, stop - start)).encode()

    def not_modified(self, request_id: str) -> bytes:
        """The head of the answer that says that it is still the same."""
        if self._not_modified is None:  # few ask for it, and each makes it but once a second
            known = Conditions(if_none_match=("*",))
            plan = _plan(self.facts, PlanRules(1, ()), None, known, self.now, self._age)
            self._not_modified = _left_open(plan, {})
        return (self._not_modified % request_id).encode()


def _plan(
    facts: ObjectFacts,
    rules: PlanRules,
    download: str | None,
    conditions: Conditions,
    now: int,
    age: int,
) -> ResponsePlan:
    request = ObjectRequest("GET", conditions, download)
    return plan_response(request, facts, rules, now=now, age=age, new_boundary=str)


def _left_open(plan: ResponsePlan, values: Mapping[str, str]) -> str:
    """The head of ``plan`` with other values, a template; the request id comes first."""
    fields = {**own_fields(_SOME_ID), **plan.headers}
    head = head_of(plan.status, fields, plan.content_length, HttpVersion11, keep_alive=True)
    lines = head.decode().replace("%", "%%").split("\r\n")
    for name, value in {REQUEST_ID: "%s", **values}.items():
        (place,) = [n for n, line in enumerate(lines) if line.startswith(f"{name}: ")]
        lines[place] = f"{name}: {value}"
    return "\r\n".join(lines)
