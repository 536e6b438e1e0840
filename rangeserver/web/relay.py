"""The only writer of bodies. It promises a length, counts, and keeps the promise or aborts.

aiohttp leaves a connection open after a body that is too short, so that the client takes the
next response for the missing bytes, and lets an error handler write a second status line into
a body that has begun. So: whatever goes wrong after the header is out ends in an abort of the
connection and a :class:`StreamAborted`, upon which nothing more is written.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from aiohttp import web

from rangeserver.errors import OriginError, StreamAborted
from rangeserver.origin.base import FileSlice, Opened, Origin, Part
from rangeserver.protocol.multipart import Segment
from rangeserver.protocol.response_plan import ResponsePlan
from rangeserver.web.client_progress import ClientDeadlines, ClientProgress
from rangeserver.web.exchange import Exchange, Outcome
from rangeserver.web.flush import flush
from rangeserver.web.sendfile import send_slice


async def body_parts(
    origin: Origin[Part], opened: Opened[Part], segments: Sequence[Segment]
) -> AsyncGenerator[Part]:
    """The bytes of a planned body, span after span, with one origin read open at a time.

    What ``opened`` yields is taken for the first span if it is just that. Framing is joined to
    the bytes that follow it, so that nothing is sent, not even the first part's header, before
    the origin has answered for the first span.
    """
    framing = b""
    begun = opened.parts
    for segment in segments:
        if isinstance(segment, bytes):
            framing += segment
            continue
        reading: AbstractAsyncContextManager[AsyncIterator[Part]]
        if begun is not None and segment == opened.span:
            reading = nullcontext(begun)
        else:
            reading = origin.read(opened.facts, segment)
        begun = None
        async with reading as parts:
            async for part in parts:
                if framing and isinstance(part, bytes):
                    yield framing + part
                else:
                    if framing:
                        yield framing
                    yield part
                framing = b""
    if framing:
        yield framing


async def relay(
    request: web.Request,
    exchange: Exchange,
    plan: ResponsePlan,
    parts: AsyncIterator[Part],
    deadlines: ClientDeadlines,
) -> web.StreamResponse:
    """Send a planned response with the bytes that ``parts`` yields.

    Errors of ``parts`` before its first byte pass through: nothing has been sent and they can
    still be answered. After it, any end but the promised one aborts the connection and raises
    :class:`StreamAborted`.
    """
    response = web.StreamResponse(status=plan.status, headers=plan.headers)
    if plan.content_length is not None:
        response.content_length = plan.content_length
    first = None
    if plan.body:
        first = await anext(parts, b"")
        exchange.bytes_promised = plan.content_length or 0
    exchange.response_begun = True
    transport = request.transport
    try:
        if transport is None:
            msg = "the client left before its response"
            raise ConnectionResetError(msg)
        with ClientProgress(transport, exchange, deadlines):
            await response.prepare(request)
            if first is not None:
                await _write_body(request, response, exchange, first, parts)
            await response.write_eof()
            await flush(request)
    except OriginError as error:
        exchange.abort(Outcome.ORIGIN_FAILED)
        raise StreamAborted(error.detail) from error
    except StreamAborted:
        exchange.abort(Outcome.FAILED)
        raise
    except ConnectionError:
        exchange.abort(Outcome.CLIENT_GONE)
        raise
    if exchange.first_byte is None:
        exchange.first_byte = time.monotonic()
    return response


async def _write_body(
    request: web.Request,
    response: web.StreamResponse,
    exchange: Exchange,
    first: Part,
    parts: AsyncIterator[Part],
) -> None:
    promised = exchange.bytes_promised
    part = first
    while part:
        if exchange.bytes_sent + len(part) > promised:
            msg = f"the body runs over the {promised} bytes promised"
            raise StreamAborted(msg)
        # Counted before it is taken over: the progress watch subtracts what still waits.
        exchange.bytes_sent += len(part)
        if isinstance(part, FileSlice):
            await send_slice(request, response, part, exchange)
        else:
            await response.write(part)
        if exchange.first_byte is None:
            exchange.first_byte = time.monotonic()
        part = await anext(parts, b"")
    if exchange.bytes_sent != promised:
        msg = f"the body has {exchange.bytes_sent} bytes of the {promised} promised"
        raise StreamAborted(msg)
