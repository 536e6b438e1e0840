"""Objects over HTTP: ask for facts, plan the answer, send the bytes."""

from __future__ import annotations

import secrets
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from rangeserver.errors import (
    ExpectationFailed,
    MethodNotAllowed,
    ObjectChanged,
    OriginTimeout,
    RangeUnsatisfiable,
)
from rangeserver.origin.base import Opened, Origin, Part, reporting
from rangeserver.origin.deadlines import Deadline
from rangeserver.protocol.object_keys import named_by
from rangeserver.protocol.preconditions import Conditions
from rangeserver.protocol.representation import ObjectKey
from rangeserver.protocol.response_plan import (
    ObjectRequest,
    PlanRules,
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
"""How often an answer is planned when the object is replaced before a byte of it was sent; once
of these, facts of a moment ago may be to blame."""


class _RefusedOnBelief(ObjectChanged):
    """The origin is to be asked before a request is refused."""


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
        exchange.deadline = deadline = Deadline(first_byte)
        sure = False
        try:
            with deadline, reporting(exchange.origin):
                for left in reversed(range(_VERSIONS_TRIED)):
                    try:
                        return await self._answer(request, exchange, target, asked, sure=sure)
                    except ObjectChanged as error:
                        # Before the first byte all can still be decided anew.
                        if not left or exchange.response_begun:
                            raise
                        sure = isinstance(error, _RefusedOnBelief)
        except TimeoutError:
            if not deadline.expired():
                raise
            msg = f"no first byte within {first_byte.seconds:g} s"
            raise OriginTimeout(msg) from None
        raise AssertionError

    async def _answer(
        self,
        request: web.Request,
        exchange: Exchange,
        target: Target,
        asked: ObjectRequest,
        *,
        sure: bool,
    ) -> web.StreamResponse:
        origin, rules = target.mounted.origin, target.mounted.rules
        opening = _Opening(origin, target.key, asked, rules, facts_alone=sure)
        async with opening as opened:
            plan = plan_response(
                asked,
                opened.facts,
                rules,
                now=int(time.time()),
                age=opened.facts.age(time.monotonic()),
                new_boundary=new_boundary,
            )
            if opened.parts is not None and opened.span not in plan.body:
                await opening.close()
                opened = Opened(opened.facts)
            if plan.status in _REFUSALS:
                if opened.believed:
                    # Another process may have told this client of a newer version.
                    msg = "refused because of facts of a moment ago"
                    raise _RefusedOnBelief(msg)
                return error_response(
                    plan.status, _REFUSALS[plan.status], exchange.request_id, plan.headers
                )
            exchange.status = plan.status
            exchange.content_range = plan.headers.get(hdrs.CONTENT_RANGE)
            exchange.from_object = True
            response = RangeResponse(plan, exchange, self.room)
            await response.prepare(request)
            await send_body(response.writer, plan.body, origin, opened)
            await response.write_eof()
            return response


class _Opening(AbstractAsyncContextManager[Opened[Part]]):
    """The object's facts and, where one request brings both, the read that will be needed."""

    __slots__ = ("_asked", "_entered", "_facts_alone", "_key", "_origin", "_rules")

    def __init__(
        self,
        origin: Origin[Part],
        key: ObjectKey,
        asked: ObjectRequest,
        rules: PlanRules,
        *,
        facts_alone: bool,
    ) -> None:
        self._origin = origin
        self._key = key
        self._asked = asked
        self._rules = rules
        self._facts_alone = facts_alone
        self._entered: AbstractAsyncContextManager[Opened[Part]] | None = None

    async def __aenter__(self) -> Opened[Part]:
        # To be sure, facts alone: what was believed is forgotten, and these a cache asks for.
        wanted = None if self._facts_alone else opening_range(self._asked, self._rules)
        if wanted is not None:
            opening = self._origin.open(self._key, wanted)
            try:
                opened = await opening.__aenter__()
            except RangeUnsatisfiable:
                if not self._asked.conditions.any_but_range():
                    raise  # the size is all that a 416 needs
            else:
                self._entered = opening
                return opened
        return Opened(await self._origin.describe(self._key))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        entered, self._entered = self._entered, None
        return await entered.__aexit__(kind, error, trace) if entered is not None else None

    async def close(self) -> None:
        """Give up the read; the facts are still good."""
        await self.__aexit__(None, None, None)


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
