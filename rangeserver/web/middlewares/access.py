"""The outermost layer: request id, exchange record, access line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from rangeserver.errors import StreamAborted
from rangeserver.web.exchange import (
    ActiveExchanges,
    Exchange,
    ExchangeObserver,
    Outcome,
    begin_exchange,
    own_fields,
)
from rangeserver.web.flush import flush


def recorded(
    active: ActiveExchanges, observers: Sequence[ExchangeObserver], write_idle_seconds: float
) -> Middleware:
    """A middleware that keeps each running exchange in ``active`` and reports it when it ends.

    ``write_idle_seconds`` bounds the wait for a client that reads none of its small responses.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        exchange = begin_exchange(request)
        active.add(exchange)
        try:
            response = await handler(request)
            if not response.prepared:
                await _send(request, response, exchange, write_idle_seconds)
        except (asyncio.CancelledError, ConnectionError):
            exchange.outcome = exchange.outcome or Outcome.CLIENT_GONE
            raise
        else:
            exchange.outcome = exchange.outcome or Outcome.COMPLETE
            return response
        finally:
            exchange.finished = time.monotonic()
            active.remove(exchange)
            for observe in observers:
                observe(exchange)

    return middleware


async def _send(
    request: web.Request,
    response: web.StreamResponse,
    exchange: Exchange,
    write_idle_seconds: float,
) -> None:
    """Send a response that needed no relay here, so that its line is true when it is written."""
    for name, value in own_fields(exchange.request_id).items():
        response.headers.setdefault(name, value)
    exchange.status = response.status
    exchange.response_begun = True
    exchange.from_object = False  # of what was planned, nothing is sent
    body = response.body if isinstance(response, web.Response) else None
    if isinstance(body, bytes) and request.method != "HEAD":
        exchange.bytes_promised = len(body)
    try:
        async with asyncio.timeout(write_idle_seconds):
            await response.prepare(request)
            await response.write_eof()
            await flush(request.protocol)
    except TimeoutError:
        exchange.abort(Outcome.CLIENT_TOO_SLOW)
        msg = "the client reads none of its responses"
        raise StreamAborted(msg) from None
    exchange.bytes_sent = exchange.bytes_promised
    exchange.first_byte = time.monotonic()
