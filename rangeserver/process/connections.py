"""Client connections: their limits, and errors that arise before there is a request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol, cast

from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http_exceptions import InvalidURLError, LineTooLong
from aiohttp.http_parser import RawRequestMessage

from rangeserver.errors import (
    BadRequest,
    RequestError,
    RequestTooLong,
    TargetNotEncoded,
    TlsRequired,
    TooManyConnections,
)
from rangeserver.process.places import Place, Places
from rangeserver.process.tls_transport import Guarded, HandshakeFailure
from rangeserver.protocol.validators import format_http_date
from rangeserver.web.at_once import AtOnce
from rangeserver.web.cut_off import CutOff
from rangeserver.web.direct_answer import DirectAnswer
from rangeserver.web.error_responses import (
    INTERNAL_ERROR,
    error_body,
    error_headers,
    error_response,
)
from rangeserver.web.exchange import (
    EXCHANGE,
    Exchange,
    ExchangeObserver,
    Outcome,
    begin_exchange,
    new_request_id,
)

log = logging.getLogger(__name__)

_HALF_CLOSED_SECONDS = 2.0
"""How long a client that has closed its side is kept while there is nothing to write to it."""

_REFUSAL_SECONDS = 1.0
"""A refused connection stays open this long: closed at once, with the client's request still
unread, the kernel would reset it and the client would never see why."""


class Home(Protocol):
    """What a connection belongs to."""

    places: Places
    observers: Sequence[ExchangeObserver]
    """Told of the responses that no middleware saw."""
    at_once: AtOnce | None
    """Asked first for an answer; not over TLS, where the kernel cannot take it from a file."""

    def handshake_failed(self, failure: HandshakeFailure) -> None:
        """Count one that did not come to TLS."""


class Connection(web.RequestHandler, Guarded):
    """One client connection."""

    __slots__ = (
        *("_all_asked", "_answer", "_answered", "_at_once", "_close_after", "_descriptor"),
        *("_goes_on", "_home", "_peer", "_place", "_refused"),
    )

    def __init__(self, server: web.Server, home: Home, **options: Any) -> None:
        super().__init__(server, **options)
        self._home = home
        self._all_asked = False
        self._answered = 0
        self._refused = False
        self._place = Place.NONE
        self._peer = ""
        self._at_once: AtOnce | None = None
        self._descriptor = -1
        self._answer: DirectAnswer | None = None
        self._goes_on = True
        self._close_after = False

    def arrive(self, transport: asyncio.BaseTransport) -> bool:
        """Count the connection, over TLS before its handshake; ``False`` if it cannot stay."""
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        self._place = self._home.places.take(self._peer)
        return self._place is not Place.NONE

    def handshake_failed(self, transport: asyncio.Transport, failure: HandshakeFailure) -> None:
        """Give back the place of a connection that never was one, or tell what is spoken here."""
        self._home.handshake_failed(failure)
        if failure is HandshakeFailure.PLAIN_HTTP:
            transport.set_protocol(self)
            super().connection_made(transport)
            self._refuse(TlsRequired)
        else:
            self._home.places.leave(self._place, self._peer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or answer 503 before anything is asked."""
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is None:
            self._at_once = self._home.at_once
            self._descriptor = transport.get_extra_info("socket").fileno()
        if self._place is Place.NONE and not self.arrive(transport):
            self.force_close()
            cast("asyncio.Transport", transport).abort()  # uvloop's are none by their class
        elif self._place is Place.REFUSED:
            self._refuse(TooManyConnections)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give back the place of the connection."""
        first = self._manager is not None  # when the server stops it is told twice
        super().connection_lost(exc)
        if first and self._place is Place.ADMITTED:
            self._home.places.leave(self._place, self._peer)
        if self._answer is not None:
            self._answer.client_left()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends, unless the connection was refused."""
        if self._refused:
            return
        # Or aiohttp's task would be told of the request before we have seen it.
        waiter, self._waiter = self._waiter, None
        before = len(self._messages)  # those are the task's, though it may not have come to them
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        if len(self._messages) == before or (before == 0 and self._answered_at_once()):
            return
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _answered_at_once(self) -> bool:
        """Begin to answer a request that takes no waiting, if it is all that there is to do."""
        transport = self.transport
        if (
            self._at_once is None
            or self._request_count != self._answered + 1
            or self._all_asked
            or not self._goes_on
            or transport is None
            or transport.get_write_buffer_size()
        ):
            return False
        (message, payload), *_ = self._messages
        if payload is not EMPTY_PAYLOAD or not isinstance(message, RawRequestMessage):
            return False
        try:
            answer = self._at_once(message, self, self._peer)
        except Exception:  # nothing is sent: it will be met again on the usual way
            log.debug("not answered at once", exc_info=True)
            return False
        if answer is None:
            return False
        assert self._manager is not None
        assert self._parser is not None
        self._messages.clear()
        self._parser.message_consumed()
        self._manager.requests_count += 1
        self._answer, head = answer
        self._answer.begin(head, self._descriptor, self._answer_over)
        return True

    def _answer_over(self) -> None:
        """Do what aiohttp does between a response and the next request."""
        self._answer = None
        self._answered += 1
        if self._close_after or (self._all_asked and self._answered == self._request_count):
            self.force_close()
        elif self._manager is not None:
            close_time = self._loop.time() + self._keepalive_timeout
            self._next_keepalive_close_time = close_time
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def close(self) -> None:
        """Take no more requests, and close once those that have come are answered."""
        if self._answer is None:
            super().close()
        else:  # aiohttp, which knows of no answer, might close at once
            self._close_after = True

    def _process_keepalive(self) -> None:
        """Close a connection on which nothing has been asked for long."""
        if self._answer is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = None

    async def _handle_request(self, *request: Any) -> tuple[web.StreamResponse, bool]:
        """Answer a request, once what was asked before it is answered."""
        if self._answer is not None:
            await self._answer.wait()
        return await super()._handle_request(*request)

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
        if self._answer is not None:
            exchange = self._answer.exchange
        output = self._answered + (exchange.bytes_sent if exchange is not None else 0)
        waiting = exchange.bytes_waiting if exchange is not None else 0
        waiting += self.transport.get_write_buffer_size()
        if output == before and not waiting:
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
            return CutOff()  # the connection is gone; whoever cut it has logged why
        if status == 400:
            log.debug("request %s: bad request: %s", exchange.request_id, message)
        else:
            log.error("request %s: unexpected error", exchange.request_id, exc_info=exc)
        if request.writer.output_size > 0 or exchange.response_begun:
            exchange.abort(Outcome.FAILED)
            return CutOff()
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
        self._goes_on = bool(resp.keep_alive) and request.content.is_eof()
        if self._all_asked and self._answered == self._request_count:
            self.close()
        return resp, reset

    def _refuse(self, error: type[RequestError]) -> None:
        """Answer without having been asked, and hear nothing any more."""
        self._refused = True
        transport = self.transport
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
        self._loop.call_later(_REFUSAL_SECONDS, self._refusal_over)

    def _refusal_over(self) -> None:
        if self._place is Place.REFUSED:
            self._home.places.leave(self._place, self._peer)
        self.force_close()

    def _report(self, exchange: Exchange) -> None:
        for observe in self._home.observers:
            observe(exchange)
