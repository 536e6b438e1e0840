"""The outermost layer: request id, exchange record, access line."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from rangeserver.web.cut_off import CutOff
from rangeserver.web.exchange import (
    Exchange,
    Outcome,
    begin_exchange,
    outcome_of,
    own_fields,
)
from rangeserver.web.exchanges import Exchanges
from rangeserver.web.flush import flush


def recorded(exchanges: Exchanges) -> Middleware:
    """A middleware that keeps each running exchange in ``exchanges`` and ends it there."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        exchange = begin_exchange(request)
        exchanges.add(exchange)
        outcome = Outcome.FAILED
        try:
            response = await handler(request)
            if not exchange.response_begun and not isinstance(response, CutOff):
                await _send(request, response, exchange)
            outcome = Outcome.COMPLETE
        except (asyncio.CancelledError, ConnectionError) as error:
            outcome = outcome_of(error)
            raise
        else:
            return response
        finally:
            exchanges.finish(exchange, outcome)

    return middleware


async def _send(request: web.Request, response: web.StreamResponse, exchange: Exchange) -> None:
    """Send a response that is no object's here, so that its line is true when it is written."""
    for name, value in own_fields(exchange.request_id).items():
        response.headers.setdefault(name, value)
    exchange.status = response.status
    exchange.response_begun = True
    exchange.from_object = False  # of what was planned, nothing is sent
    body = response.body if isinstance(response, web.Response) else None
    exchange.bytes_promised = 0
    if isinstance(body, bytes) and request.method != "HEAD":
        exchange.bytes_promised = len(body)
    await response.prepare(request)
    await response.write_eof()
    await flush(request.protocol)
    exchange.bytes_sent = exchange.bytes_promised
