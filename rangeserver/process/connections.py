"""Client connections: their limits, and errors that arise before there is a request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import InvalidURLError, LineTooLong
from aiohttp.typedefs import Handler

from rangeserver.errors import (
    BadRequest,
    RequestError,
    RequestTooLong,
    StreamAborted,
    TargetNotEncoded,
    TlsRequired,
    TooManyConnections,
)
from rangeserver.process.tls import Tls
from rangeserver.process.tls_transport import Guarded, HandshakeFailure, TlsTransport
from rangeserver.protocol.validators import format_http_date
from rangeserver.web.error_responses import (
    INTERNAL_ERROR,
    error_body,
    error_headers,
    error_response,
)
from rangeserver.web.exchange import (
    EXCHANGE,
    OBSERVERS,
    Exchange,
    ExchangeObserver,
    Outcome,
    begin_exchange,
    new_request_id,
)
from rangeserver.web.routing import direct_handler

log = logging.getLogger(__name__)

_HALF_CLOSED_SECONDS = 2.0
"""How long a client that has closed its side is kept while there is nothing to write to it."""

MAX_REFUSALS = 64
"""Connections being refused at once; further ones are reset without a word, lest those that
are admitted lack descriptors for the origin."""

_REFUSAL_SECONDS = 1.0
"""A refused connection stays open this long: closed at once, with the client's request still
unread, the kernel would reset it and the client would never see why."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be in all, and from one address (0: no limit)."""

    total: int
    per_client: int


class Place(Enum):
    """What a connection counts as."""

    NONE = 0
    ADMITTED = 1
    REFUSED = 2


class Connection(web.RequestHandler, Guarded):
    """One client connection."""

    __slots__ = ("_all_asked", "_answered", "_peer", "_place", "_refused")

    def __init__(self, server: ConnectionServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._all_asked = False
        self._answered = 0
        self._refused = False
        self._place = Place.NONE
        self._peer = ""

    def arrive(self, transport: asyncio.BaseTransport) -> bool:
        """Count the connection, over TLS before its handshake; ``False`` if it cannot stay."""
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        self._place = self._server().place_for(self._peer)
        return self._place is not Place.NONE

    def handshake_failed(self, transport: asyncio.Transport, failure: HandshakeFailure) -> None:
        """Give back the place of a connection that never was one, or tell what is spoken here."""
        server = self._server()
        server.handshake_failed(failure)
        if failure is HandshakeFailure.PLAIN_HTTP:
            transport.set_protocol(self)
            super().connection_made(transport)
            self._refuse(TlsRequired)
        else:
            server.leave(self._place, self._peer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or answer 503 before anything is asked."""
        super().connection_made(transport)
        if self._place is Place.NONE and not self.arrive(transport):
            self.force_close()
            cast("asyncio.Transport", transport).abort()  # uvloop's are none by their class
        elif self._place is Place.REFUSED:
            self._refuse(TooManyConnections)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give back the place of the connection."""
        server = self._manager
        super().connection_lost(exc)
        if isinstance(server, ConnectionServer) and self._place is Place.ADMITTED:
            server.leave(self._place, self._peer)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends, unless the connection was refused."""
        if not self._refused:
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's closes at once
        """The client closed its side; what it asked before is still answered, then we close.

        A client that left altogether looks the same until the next write, which a reset answers.
        """
        self._all_asked = True
        if self._answered == self._request_count:
            return False
        self._expect_output(-1)
        return True

    def _expect_output(self, before: int) -> None:
        """Cut off a client that closed its side once nothing was written to it for a moment.

        While the origin is silent nothing can tell whether it still listens, and a client that
        left must not hold an origin connection.
        """
        if self.transport is None:
            return
        request = self._current_request
        exchange = request.get(EXCHANGE) if request is not None else None
        output = self._answered + (exchange.bytes_sent if exchange is not None else 0)
        if output == before and not self.transport.get_write_buffer_size():
            if exchange is not None:
                exchange.abort(Outcome.CLIENT_GONE)
            self.force_close()
            return
        self._loop.call_later(_HALF_CLOSED_SECONDS, self._expect_output, output)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer by the error contract what never reached, or escaped, the middlewares."""
        exchange = request.get(EXCHANGE) or begin_exchange(request)
        if isinstance(exc, ConnectionError) and exchange.response_begun:
            try:
                raise exc  # the connection is gone; whoever cut it has logged why
            finally:
                # Or this frame and the error hold each other, and with them the whole response,
                # which may have a cache file open.
                exc = None
        if status == 400:
            log.debug("request %s: bad request: %s", exchange.request_id, message)
        else:
            log.error("request %s: unexpected error", exchange.request_id, exc_info=exc)
        if request.writer.output_size > 0 or exchange.response_begun:
            exchange.abort(Outcome.FAILED)
            raise StreamAborted(str(exc)) from exc
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
            exchange.finished = exchange.first_byte = time.monotonic()
            exchange.bytes_sent = 0 if reset else exchange.bytes_promised
            exchange.outcome = Outcome.CLIENT_GONE if reset else Outcome.COMPLETE
            self._report(exchange)
        self._answered += 1
        if self._all_asked and self._answered == self._request_count:
            self.close()
        return resp, reset

    def _refuse(self, error: type[RequestError]) -> None:
        """Answer without having been asked, and hear nothing any more."""
        self._refused = True
        transport, server = self.transport, self._server()
        assert transport is not None
        exchange = Exchange(new_request_id(), self._peer, "-", status=error.status)
        body = error_body(error.code, error.message, exchange.request_id)
        headers = error_headers(exchange.status, exchange.request_id, len(body)) | {
            "Connection": "close",
            "Date": format_http_date(int(time.time())),
        }
        if error.status == TooManyConnections.status:
            headers["Retry-After"] = "1"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        status = f"{error.status} {HTTPStatus(error.status).phrase}"
        transport.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
        if transport.can_write_eof():
            transport.write_eof()
        exchange.bytes_promised = exchange.bytes_sent = len(body)
        exchange.outcome = Outcome.COMPLETE
        exchange.finished = time.monotonic()
        self._report(exchange)
        self._loop.call_later(_REFUSAL_SECONDS, self._refusal_over, server)

    def _refusal_over(self, server: ConnectionServer) -> None:
        if self._place is Place.REFUSED:
            server.leave(self._place, self._peer)
        self.force_close()

    def _server(self) -> ConnectionServer:
        server = self._manager
        assert isinstance(server, ConnectionServer)
        return server

    def _report(self, exchange: Exchange) -> None:
        server = self._manager
        if isinstance(server, ConnectionServer):
            for observe in server.observers:
                observe(exchange)


class ConnectionServer(web.Server):
    """Makes a :class:`Connection` for each client and counts them."""

    def __init__(
        self,
        stock: web.Server,
        handler: Handler,
        limits: ConnectionLimits,
        options: dict[str, Any],
        observers: Sequence[ExchangeObserver],
        tls: Tls | None,
    ) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]  # which requests there are, the factory says
            request_factory=stock.request_factory,
            handler_cancellation=True,
        )
        self._options = options
        self._limits = limits
        self._tls = tls
        self._by_client: Counter[str] = Counter()
        self.open_connections = 0
        self.refusing = 0
        self.handshaking: set[TlsTransport] = set()
        self.observers = observers

    def __call__(self) -> Connection | TlsTransport:  # type: ignore[override]  # a protocol it is
        """A protocol for a connection that was just accepted."""
        connection = Connection(self, loop=self._loop, **self._options)
        if self._tls is None:
            return connection
        return TlsTransport(
            self._tls.context,
            connection,
            handshake_seconds=self._options["keepalive_timeout"],
            running=self.handshaking,
        )

    def pre_shutdown(self) -> None:
        """Close what is idle, and what has not come to asking."""
        for arriving in tuple(self.handshaking):
            arriving.abort()
        super().pre_shutdown()

    def place_for(self, peer: str) -> Place:
        """Count a new connection: as admitted or, if it is one too many, as being refused."""
        per_client = self._limits.per_client
        if self.open_connections < self._limits.total and not (
            per_client and self._by_client[peer] >= per_client
        ):
            self.open_connections += 1
            self._by_client[peer] += 1
            return Place.ADMITTED
        if self.refusing >= MAX_REFUSALS:
            return Place.NONE
        self.refusing += 1
        return Place.REFUSED

    def leave(self, place: Place, peer: str) -> None:
        """A connection that had this place has ended."""
        if place is Place.REFUSED:
            self.refusing -= 1
            return
        self.open_connections -= 1
        self._by_client[peer] -= 1
        if not self._by_client[peer]:
            del self._by_client[peer]

    def handshake_failed(self, failure: HandshakeFailure) -> None:
        """Count it."""
        if self._tls is not None:
            self._tls.handshake_failed(failure)


class ConnectionRunner(web.AppRunner):
    """Runs an application on our connections; also what a gunicorn worker can be given."""

    def __init__(
        self,
        app: web.Application,
        limits: ConnectionLimits,
        *,
        keep_alive_seconds: float,
        tls: Tls | None = None,
    ) -> None:
        # One second suffices for what is left after our own drain; aiohttp waits it twice.
        super().__init__(app, shutdown_timeout=1.0, access_log=None)
        self._limits = limits
        self._tls = tls
        # lingering_time: a request body is read only to keep the connection usable, and for the
        # same reason not decompressed.
        self._options = {
            "auto_decompress": False,
            "keepalive_timeout": keep_alive_seconds,
            "lingering_time": 2.0,
            "access_log": None,
        }

    async def _make_server(self) -> web.Server:
        stock = await super()._make_server()
        observers = self.app[OBSERVERS]
        handler = direct_handler(self.app)
        return ConnectionServer(stock, handler, self._limits, self._options, observers, self._tls)
