"""The only writer of bodies. It promises a length, counts, and keeps the promise or aborts.

aiohttp leaves a connection open after a body that is too short, so that the client takes the
next response for the missing bytes, and lets an error handler write a second status line into
a body that has begun. So: whatever goes wrong after the header is out ends in an abort of the
connection and a :class:`StreamAborted`, upon which nothing more is written.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from aiohttp import HttpVersion, HttpVersion10, hdrs, web

from rangeserver.errors import OriginError, StreamAborted
from rangeserver.origin.base import Opened, Origin, Part
from rangeserver.protocol.multipart import Segment
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.response_head import response_head
from rangeserver.protocol.response_plan import ResponsePlan
from rangeserver.protocol.validators import format_http_date
from rangeserver.web.client_progress import ProgressWatch
from rangeserver.web.exchange import Exchange, Outcome, own_fields
from rangeserver.web.flush import Client
from rangeserver.web.sender import Sender
from rangeserver.web.sendfile import Room
from rangeserver.web.sent_response import SentResponse


@dataclass(frozen=True, slots=True)
class Relay:
    """Sends planned responses; ``watch`` cuts off those whose clients are too slow."""

    watch: ProgressWatch
    room: Room

    async def __call__(
        self,
        request: web.BaseRequest,
        exchange: Exchange,
        plan: ResponsePlan,
        origin: Origin[Part],
        opened: Opened[Part],
    ) -> web.StreamResponse:
        """Send a planned response with bytes of ``origin``, of the version that is ``opened``.

        Errors of the origin before the first byte pass through: nothing has been sent and they
        can still be answered. After it, any end but the promised one aborts the connection and
        raises :class:`StreamAborted`.
        """
        keep_alive = request.keep_alive
        head = head_of(exchange.request_id, plan, request.version, keep_alive=keep_alive)
        exchange.bytes_promised = (plan.content_length or 0) if plan.body else 0
        sender = Sender(request.protocol, exchange, self.room, head)
        await self._send(sender, exchange, plan.body, origin, opened)
        return SentResponse(plan.status, keep_alive=keep_alive)

    async def go_on(
        self,
        client: Client,
        exchange: Exchange,
        head: bytes,
        origin: Origin[Part],
        rest: Opened[Part],
    ) -> None:
        """Send the rest of a response that was begun otherwise: ``head``, what is left of its head,
        and the span of ``rest``, if there is any. Ends and raises as a call does.
        """
        sender = Sender(client, exchange, self.room, head)
        await self._send(sender, exchange, (rest.span,) if rest.span.length else (), origin, rest)

    async def _send(
        self,
        sender: Sender,
        exchange: Exchange,
        body: Sequence[Segment],
        origin: Origin[Part],
        opened: Opened[Part],
    ) -> None:
        self.watch.begin(exchange)
        try:
            await _send_body(sender, body, origin, opened)
            await sender.finish()
        except OriginError as error:
            if not exchange.response_begun:
                exchange.bytes_promised = 0
                raise
            exchange.abort(Outcome.ORIGIN_FAILED)
            raise StreamAborted(error.detail) from error
        except StreamAborted:
            exchange.abort(Outcome.FAILED)
            raise
        except ConnectionError:
            exchange.abort(Outcome.CLIENT_GONE)
            raise
        finally:
            self.watch.end(exchange)


def head_of(
    request_id: str, plan: ResponsePlan, version: HttpVersion, *, keep_alive: bool
) -> bytes:
    """The head of a planned response."""
    fields = own_fields(request_id)
    fields |= plan.headers
    if plan.content_length is not None:
        fields[hdrs.CONTENT_LENGTH] = str(plan.content_length)
    fields[hdrs.DATE] = format_http_date(int(time.time()))
    if keep_alive == (version == HttpVersion10):  # else it is what the version means anyway
        fields[hdrs.CONNECTION] = "keep-alive" if keep_alive else "close"
    return response_head(version, plan.status, fields)


async def _send_body(
    sender: Sender, segments: Sequence[Segment], origin: Origin[Part], opened: Opened[Part]
) -> None:
    """Send a planned body, span after span, with one origin read open at a time.

    What ``opened`` yields is taken for the first span if it is just that. Framing is held for the
    bytes that follow it, so that nothing is sent, not even the header, before the origin has
    answered for the first span.
    """
    begun = opened.parts
    for segment in segments:
        if isinstance(segment, bytes):
            sender.hold(segment)
            continue
        reading: AbstractAsyncContextManager[AsyncIterator[Part]]
        if begun is not None and segment == opened.span:
            reading = nullcontext(begun)
        else:
            reading = origin.read(opened.facts, segment)
        begun = None
        rest = await _send_span(sender, segment, reading)
        while rest.length:
            before = rest
            rest = await _send_span(sender, rest, origin.read(opened.facts, rest))
            if rest == before:
                msg = "a cache file cannot be read"
                raise StreamAborted(msg)


async def _send_span(
    sender: Sender, span: ByteSpan, reading: AbstractAsyncContextManager[AsyncIterator[Part]]
) -> ByteSpan:
    """Send what a read gives; what is left of ``span`` if that ended with a file that has less
    than it had, or was given up. It is to be read again then.
    """
    position = span.start
    async with reading as parts:
        async for part in parts:
            left = await sender.send(part)
            position += len(part) - left
            if left:
                return ByteSpan(position, span.stop)
    return ByteSpan(span.stop, span.stop)
