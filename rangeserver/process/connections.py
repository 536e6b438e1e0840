"""Client connections: their places, and errors that arise where no middleware sees them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.http_exceptions import InvalidURLError, LineTooLong

from rangeserver.errors import (
    BadRequest,
    RequestError,
    RequestTooLong,
    TargetNotEncoded,
    TlsRequired,
    TooManyConnections,
)
from rangeserver.process.closing import close_gently
from rangeserver.process.guarded import Guarded, HandshakeFailure
from rangeserver.process.leaving import Leaving
from rangeserver.process.places import Place, Places
from rangeserver.process.refusal import refuse
from rangeserver.web.cut_off import CutOff, cut_off
from rangeserver.web.error_responses import INTERNAL_ERROR, error_response
from rangeserver.web.exchange import EXCHANGE, Outcome, begin_exchange
from rangeserver.web.exchanges import Exchanges
from rangeserver.web.fast_path import FastPath

log = logging.getLogger(__name__)


_REFUSAL_SECONDS = 1.0
"""How long a client has to take a refusal."""


class Home(Protocol):
    """What a connection belongs to."""

    places: Places
    exchanges: Exchanges
    fast_path: FastPath | None
    """Asked first for an answer; not over TLS, where the kernel cannot take it from a file."""
    finishing: bool
    """Whether the server stops."""

    def handshake_failed(self, failure: HandshakeFailure) -> None:
        """Count one that did not come to TLS."""


class Connection(Leaving, Guarded):
    """One client connection."""

    __slots__ = ("_arriving", "_home", "_place")

    def __init__(self, server: web.Server, home: Home, **options: Any) -> None:
        super().__init__(server, **options)
        self._home = home
        self._place = Place.NONE
        self._arriving: asyncio.Transport | None = None
        """The plain connection, until its handshake is over."""

    def arrive(self, transport: asyncio.BaseTransport) -> bool:
        """Count the connection, over TLS before its handshake; ``False`` if it cannot stay."""
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else ""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self._arriving = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self._place = self._home.places.take(self)
        return self._place is not Place.NONE

    def handshake_failed(self, transport: asyncio.Transport, failure: HandshakeFailure) -> None:
        """Give back the place of a connection that never was one, or tell what is spoken here."""
        self._arriving = None
        self._home.handshake_failed(failure)
        if failure is HandshakeFailure.PLAIN_HTTP:
            transport.set_protocol(self)
            super().connection_made(transport)
            self._refuse(TlsRequired)
        else:
            self._give_back()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or answer 503 before anything is asked."""
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is None:
            self._fast_path = self._home.fast_path
            self._descriptor = transport.get_extra_info("socket").fileno()
        if self._place is Place.NONE and not self.arrive(transport):
            self.force_close()
            cast("asyncio.Transport", transport).abort()
        elif self._place is Place.REFUSED:
            self._refuse(TooManyConnections)
        elif self._home.finishing:
            self.finish()
        self._arriving = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give back the place of the connection."""
        first = self._manager is not None  # when the server stops it is told twice
        super().connection_lost(exc)
        if first:
            self._give_back()

    def _give_back(self) -> None:
        place, self._place = self._place, Place.NONE
        if place is Place.ADMITTED:
            self._home.places.leave(self)
        elif place is Place.REFUSED:
            self._home.places.refused()

    def give_way(self) -> bool:
        """Close, if nothing is being answered; whether it does."""
        if self._arriving is None:
            return super().give_way()
        self._arriving.abort()  # it has not come to asking
        return True

    def _refuse(self, error: type[RequestError]) -> None:
        """Answer without having been asked, and hear nothing any more."""
        assert self.transport is not None
        self._hear_nothing()
        self._home.exchanges.finish(refuse(error, self.peer, self.transport), Outcome.COMPLETE)
        close_gently(self.transport, _REFUSAL_SECONDS)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer by the error contract what never reached, or escaped, the middlewares."""
        exchange = request.get(EXCHANGE) or begin_exchange(request)
        error = exc or RuntimeError(message)
        if request.writer.output_size > 0 or exchange.response_begun:
            return cut_off(exchange, error)
        if isinstance(exc, ConnectionError):
            return CutOff()
        if status == 400:
            log.debug("request %s: bad request: %s", exchange.request_id, message)
        else:
            log.error("request %s: unexpected error", exchange.request_id, exc_info=error)
        fault: type[BadRequest] = BadRequest
        if isinstance(exc, LineTooLong):
            fault = RequestTooLong
        elif isinstance(exc, InvalidURLError):
            fault = TargetNotEncoded
        answer = (fault.code, fault.message) if status == 400 else INTERNAL_ERROR
        response = error_response(status, answer, exchange.request_id)
        response.force_close()
        exchange.status = status
        exchange.bytes_promised = len(response.body) if isinstance(response.body, bytes) else 0
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; report one that no middleware saw."""
        resp, reset = await super().finish_response(request, resp, start_time)
        exchange = request.get(EXCHANGE)
        if exchange is not None and exchange.finished is None:
            exchange.bytes_sent = 0 if reset else exchange.bytes_promised
            outcome = Outcome.CLIENT_GONE if reset else Outcome.COMPLETE
            self._home.exchanges.finish(exchange, outcome)
        return resp, reset
