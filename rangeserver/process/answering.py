"""One request: asked of the application, and answered here if that fails altogether."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.typedefs import Handler

from rangeserver.web.cut_off import cut_off
from rangeserver.web.error_responses import INTERNAL_ERROR, error_response
from rangeserver.web.exchange import EXCHANGE, Outcome, begin_exchange
from rangeserver.web.exchanges import Exchanges
from rangeserver.web.fast_path import FastPath

log = logging.getLogger(__name__)

_BODY_SECONDS = 2.0
"""How long the rest of a request's body may take once the request is answered."""


@dataclass(slots=True)
class Service:
    """What the connections of a server share."""

    loop: asyncio.AbstractEventLoop
    exchanges: Exchanges
    header_seconds: float
    keep_alive_seconds: float
    handler: Handler = field(init=False)
    fast_path: FastPath | None = None
    """Asked first for an answer; not over TLS, where the kernel cannot take it from a file."""
    finishing: bool = False
    """Whether the server stops."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Those that answer requests, also of connections that are lost."""

    def start(self, answering: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have a request answered."""
        task = self.loop.create_task(answering)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class ClientRequest(web.Request):
    """A request whose response says that it is the last if the connection is to end with it."""

    @property
    def keep_alive(self) -> bool:  # aiohttp's is kept once it was read
        """Whether the connection stays open after the response, as far as is known now."""
        return bool(super().keep_alive) and not cast("Any", self.protocol).ends_here


async def answer(request: web.Request, service: Service) -> bool:
    """Answer a request; whether another one may follow it."""
    try:
        try:
            response = await service.handler(request)
        except web.HTTPException as error:
            response = error
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return False
    except Exception as error:  # noqa: BLE001 (logged, and answered or cut off)
        await _answer_failure(request, error, service.exchanges)
        return False
    return bool(response.keep_alive)


async def _answer_failure(request: web.Request, error: Exception, exchanges: Exchanges) -> None:
    """Answer by the error contract what no middleware has answered."""
    exchange = request.get(EXCHANGE) or begin_exchange(request)
    if request.writer.output_size > 0 or exchange.response_begun:
        cut_off(exchange, error)
        exchanges.finish(exchange, Outcome.FAILED)
        return
    log.error("request %s: unexpected error", exchange.request_id, exc_info=error)
    exchange.status = 500
    response = error_response(500, INTERNAL_ERROR, exchange.request_id)
    response.force_close()
    outcome = Outcome.CLIENT_GONE
    with suppress(ConnectionError):
        await response.prepare(request)
        await response.write_eof()
        exchange.bytes_promised = exchange.bytes_sent = response.content_length or 0
        outcome = Outcome.COMPLETE
    exchanges.finish(exchange, outcome)


async def discard(body: StreamReader) -> None:
    """Throw away what still comes of the body of a request that is answered."""
    with suppress(TimeoutError, HttpProcessingError):
        async with asyncio.timeout(_BODY_SECONDS):
            while not body.is_eof():
                await body.readany()
