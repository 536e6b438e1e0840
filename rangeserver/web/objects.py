"""Objects over HTTP: ask for facts, plan the answer, send the bytes."""

from __future__ import annotations

import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from rangeserver.errors import (
    ExpectationFailed,
    MethodNotAllowed,
    ObjectChanged,
    OriginTimeout,
    RangeUnsatisfiable,
)
from rangeserver.origin.base import Objects, Part, Representation, reporting
from rangeserver.origin.deadlines import Deadline
from rangeserver.protocol.object_keys import named_by
from rangeserver.protocol.preconditions import Conditions
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.protocol.response_plan import (
    ObjectRequest,
    PlanRules,
    ResponsePlan,
    opening_range,
    plan_response,
)
from rangeserver.web.body_writer import send_body
from rangeserver.web.error_responses import (
    ALLOWED_METHODS,
    PRECONDITION_FAILED,
    RANGE_NOT_SATISFIABLE,
    error_response,
)
from rangeserver.web.exchange import EXCHANGE, Exchange
from rangeserver.web.range_response import RangeResponse
from rangeserver.web.sendfile import Room
from rangeserver.web.targets import Target, Targets

_VERSIONS_TRIED = 3
"""How often an answer is begun when the object is replaced before a byte of it was sent."""


@dataclass(frozen=True, slots=True)
class ObjectHandler:
    """Answers every request for an object."""

    targets: Targets
    room: Room

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; errors are raised for the middleware to answer."""
        exchange = request[EXCHANGE]
        exchange.key = named_by(request.raw_path)
        if request.method not in _METHODS:
            raise MethodNotAllowed
        if hdrs.EXPECT in request.headers:
            await _meet_expectation(request)
        if request.method == hdrs.METH_OPTIONS:
            return web.Response(status=204, headers={hdrs.ALLOW: ALLOWED_METHODS})
        target = self.targets.find(request.raw_path)
        exchange.key = target.logged
        conditions = conditions_of(request.headers)
        asked = ObjectRequest(request.method, conditions, target.download)
        first_byte = target.mounted.first_byte
        exchange.origin.deadline = deadline = Deadline(first_byte)
        try:
            with deadline, reporting(exchange.origin):
                for left in reversed(range(_VERSIONS_TRIED)):
                    try:
                        return await self._answer(request, exchange, target, asked)
                    except ObjectChanged:
                        # Before the first byte all can still be decided anew.
                        if not left or exchange.response_begun:
                            raise
        except TimeoutError:
            if not deadline.expired():
                raise
            msg = f"no first byte within {first_byte.seconds:g} s"
            raise OriginTimeout(msg) from None
        raise AssertionError

    async def _answer(
        self, request: web.Request, exchange: Exchange, target: Target, asked: ObjectRequest
    ) -> web.StreamResponse:
        rules = target.mounted.rules
        async with AsyncExitStack() as opening:
            representation = await _open(opening, target.mounted.origin, target.key, asked, rules)
            plan = _plan(asked, representation.facts, rules)
            if plan.status in _REFUSALS and representation.unvalidated:
                # Another process may have told this client of a newer version.
                await representation.revalidate()
                plan = _plan(asked, representation.facts, rules)
            if representation.begun is not None and representation.begun.span not in plan.body:
                await opening.aclose()
                representation.begun = None
            if plan.status in _REFUSALS:
                return error_response(
                    plan.status, _REFUSALS[plan.status], exchange.request_id, plan.headers
                )
            exchange.status = plan.status
            exchange.content_range = plan.headers.get(hdrs.CONTENT_RANGE)
            exchange.from_object = True
            response = RangeResponse(plan, exchange, self.room)
            await response.prepare(request)
            await send_body(response.writer, plan.body, representation)
            await response.write_eof()
            return response


async def _open(
    opening: AsyncExitStack,
    origin: Objects[Part],
    key: ObjectKey,
    asked: ObjectRequest,
    rules: PlanRules,
) -> Representation[Part]:
    """The object and, where one request brings both, the read that will be needed. Closing
    ``opening`` closes that read; the facts are still good.
    """
    wanted = opening_range(asked, rules)
    if wanted is not None:
        try:
            return await opening.enter_async_context(origin.open(key, wanted))
        except RangeUnsatisfiable:
            if not asked.conditions.any_but_range():
                raise  # the size is all that a 416 needs
    return origin.representation(await origin.describe(key))


def _plan(asked: ObjectRequest, facts: ObjectFacts, rules: PlanRules) -> ResponsePlan:
    return plan_response(
        asked,
        facts,
        rules,
        now=int(time.time()),
        age=facts.age(time.monotonic()),
        new_boundary=new_boundary,
    )


_METHODS = {hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS}
_REFUSALS = {412: PRECONDITION_FAILED, 416: RANGE_NOT_SATISFIABLE}


async def _meet_expectation(request: web.Request) -> None:
    """Answer Expect: 100-continue, to clients that know it (RFC 9110 §10.1.1)."""
    if request.headers[hdrs.EXPECT].lower() != "100-continue":
        raise ExpectationFailed
    if request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # this was no part of the response


def conditions_of(headers: CIMultiDictProxy[str]) -> Conditions:
    """The fields that make a request conditional or partial."""
    return Conditions(
        if_match=tuple(headers.getall(hdrs.IF_MATCH, ())),
        if_none_match=tuple(headers.getall(hdrs.IF_NONE_MATCH, ())),
        if_modified_since=tuple(headers.getall(hdrs.IF_MODIFIED_SINCE, ())),
        if_unmodified_since=tuple(headers.getall(hdrs.IF_UNMODIFIED_SINCE, ())),
        if_range=tuple(headers.getall(hdrs.IF_RANGE, ())),
        range=tuple(headers.getall(hdrs.RANGE, ())),
    )


def new_boundary() -> str:
    """What separates the parts of a multipart answer."""
    return secrets.token_hex(16)
