"""The requests of one connection: answered one after the other, until there are no more.

What needs no waiting is answered on the fast path as it arrives, anything else by a task for each
request. The connection ends when the client closes it or leaves it idle for long, when a response
says so, or when the server stops. Whatever was asked is answered before. If nothing is being asked
it ends at once; else the last response says that it is the last, unless its head was out already.

Longer than 300 lines, because the things that may end a connection depend on each other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from rangeserver.errors import RequestError
from rangeserver.process.answering import ClientRequest, Service, answer, discard
from rangeserver.process.closing import LINGER_SECONDS, close_gently, has_unread
from rangeserver.process.refusal import refusal_of, refuse
from rangeserver.process.request_reader import RequestReader
from rangeserver.web.delivery import Delivery
from rangeserver.web.exchange import EXCHANGE, Outcome
from rangeserver.web.fast_path import FastPath

log = logging.getLogger(__name__)

_HALF_CLOSED_SECONDS = 2.0
"""How long a client that has closed its side is kept while there is nothing to write to it."""

GRACE_SECONDS = 1.0
"""Who has connected and not asked yet when the server stops has so long to do it, and so has who is
in midst of asking."""


class Pipeline:
    """Reads and answers what comes over ``client``.

    It is ``busy`` from a request until its answer is sent and its body has come, and for good once
    it is ``stopped``. While it is not, what comes is the next request.
    """

    __slots__ = (
        *("_all_asked", "_answered", "_asking", "_client", "_deadline", "_descriptor"),
        *("_fast_path", "_idle_since", "_request", "_running", "_service", "_timer"),
        *("busy", "peer", "reader", "stopped"),
    )

    def __init__(self, service: Service, client: BaseProtocol) -> None:
        self._service = service
        self._client = client
        self.peer = ""
        self.reader = RequestReader()
        self._fast_path: FastPath | None = None
        self._descriptor = -1
        self._running: asyncio.Task[None] | Delivery | None = None
        """What answers the current request."""
        self._request: ClientRequest | None = None
        """The current request, unless it is answered on the fast path."""
        self._answered = 0
        self._all_asked = False
        """Whether the client has closed its side."""
        self._asking = True
        """Whether the deadline is that of a head, not of an idle connection."""
        self._deadline = self._idle_since = service.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.busy = self.stopped = False

    # --- what the connection tells

    def start(self) -> None:
        """Wait for the first request."""
        transport = self._client.transport
        assert transport is not None
        self.reader.transport = transport
        if transport.get_extra_info("sslcontext") is None:
            self._fast_path = self._service.fast_path
            self._descriptor = transport.get_extra_info("socket").fileno()
        self._close_in(self._service.header_seconds)
        if self._service.finishing:
            self.finish()

    def receive(self, data: bytes) -> None:
        """Take what the client sends: now, if nothing is being answered."""
        if not self.busy:
            self._take(data)
        elif not self.stopped:
            self.reader.keep(data)

    def all_was_asked(self) -> bool:
        """The client closed its side; what it asked is still answered, if this is true.

        A client that left altogether looks the same until the next write, which a reset answers.
        """
        self._all_asked = True
        if self.stopped or not self.busy:
            return False
        self._expect_output(-1)
        return True

    def abort(self) -> None:
        """The connection is lost: nothing is left to be answered."""
        self.reader.transport = None
        self._stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()

    # --- requests and their answers

    def _take(self, data: bytes) -> None:
        """Answer the next request, if it is whole with ``data``."""
        reader = self.reader
        try:
            found = reader.read(data)
        except HttpProcessingError as error:
            log.debug("bad request: %s", error.message)
            self.refuse(refusal_of(error))
            return
        if found is not None:
            message, body = found
            self.busy = True
            if body is not EMPTY_PAYLOAD or not self._answer_now(message):
                self._running = self._service.start(self._answer_later(message, body))
        elif reader.ahead:  # behind empty lines
            self.busy = True
            self._service.loop.call_soon(self._next)
        elif not reader.head_bytes:
            self._rest()
        elif self._all_asked:
            self.leave()
        elif not self._asking:
            self._asking, service = True, self._service
            self._close_in(GRACE_SECONDS if service.finishing else service.header_seconds)

    def _answer_now(self, message: RawRequestMessage) -> bool:
        """Begin to answer a request, if it takes no waiting."""
        transport = self._client.transport
        if self._fast_path is None or self._all_asked or transport is None:
            return False
        if transport.get_write_buffer_size():
            return False
        try:
            found = self._fast_path(message, self._client, self.peer)
        except Exception:  # nothing is sent: it will be met again on the usual way
            log.debug("the fast path failed", exc_info=True)
            return False
        if found is None:
            return False
        self._running, head = found
        self._running.begin(head, self._descriptor, self._answer_over)
        return True

    async def _answer_later(self, message: RawRequestMessage, body: StreamReader) -> None:
        service, client = self._service, self._client
        protocol = cast("web.RequestHandler", client)  # what a request needs of one is there
        task = cast("asyncio.Task[None]", asyncio.current_task())
        writer = StreamWriter(client, service.loop)
        self._request = ClientRequest(message, body, protocol, writer, task, service.loop)
        goes_on = False
        try:
            goes_on = await answer(self._request, service)
            if goes_on and not body.is_eof():
                await discard(body)
        except asyncio.CancelledError:  # the connection is lost, or the server has waited enough
            # The task ends like any other: it would keep the error, whose frames refer to it, and
            # with these a cache file may stay open until the collector runs.
            goes_on = False
        finally:
            self._request = None
            if goes_on and body.is_eof():
                self._answer_over()
            else:
                self.leave(gently=not body.is_eof())

    def _answer_over(self) -> None:
        """Go on to the next request."""
        self._running = None
        self._answered += 1
        if self.stopped:
            return
        service = self._service
        self._idle_since = now = service.loop.time()
        self._deadline = now + service.keep_alive_seconds
        if self._asking or self._timer is None:
            self._asking = False
            self._close_in(service.keep_alive_seconds)
        if self.reader.ahead:
            service.loop.call_soon(self._next)
        else:
            self._rest()

    def _next(self) -> None:
        """Go on with what has come meanwhile."""
        if not self.stopped:
            self.busy = False
            self._take(b"")
            self.reader.regulate()

    def _rest(self) -> None:
        """All that has come is answered."""
        self.busy = False
        if self._all_asked or self._service.finishing:
            self.finish(grace=not self._all_asked)

    # --- the end

    @property
    def waiting_since(self) -> float | None:
        """Since when nothing is being answered; ``None`` while something is."""
        return None if self.busy and not self.stopped else self._idle_since

    @property
    def more_was_sent(self) -> bool:
        """Whether there is something behind what was asked."""
        transport = self._client.transport
        return bool(self.reader.ahead) or (transport is not None and has_unread(transport))

    def finish(self, *, grace: bool = True) -> None:
        """The server stops: end as soon as all that has been asked is answered, which is now if
        nothing was. ``grace``: who is about to ask has a moment to do it.
        """
        if self.busy:  # the last response says that it is the last
            return
        if grace and (self._asking or self.more_was_sent):
            self._close_in(GRACE_SECONDS)
        else:
            self.leave()

    def leave(self, *, gently: bool = False) -> None:
        """Take no more, and close once the client has what was written: ``gently``, if it may still
        be sending.
        """
        if self.stopped:
            return
        if not self._all_asked and (gently or self.more_was_sent):
            close_gently(self._client.transport, LINGER_SECONDS)
            self._stop()
        else:
            self.close()

    def refuse(self, error: type[RequestError], seconds: float = LINGER_SECONDS) -> None:
        """Answer what is no request, and take no more; the client has ``seconds`` to see it."""
        transport = self._client.transport
        assert transport is not None
        exchange = refuse(error, self.peer, transport)
        self._service.exchanges.finish(exchange, Outcome.COMPLETE)
        close_gently(transport, seconds)
        self._stop()

    def close(self) -> None:
        """Close, once what was written is sent."""
        self._stop()
        if self._client.transport is not None:
            self._client.transport.close()

    def _stop(self) -> None:
        self.busy = self.stopped = True
        self.reader.let_go()

    def _close_in(self, seconds: float) -> None:
        """Close then, unless something is being answered."""
        if self._timer is not None:
            self._timer.cancel()
        self._deadline = self._service.loop.time() + seconds
        self._timer = self._service.loop.call_at(self._deadline, self._is_late)

    def _is_late(self) -> None:
        self._timer = None
        if self.busy:  # there is another deadline after that
            return
        left = self._deadline - self._service.loop.time()
        if left > 0:  # it was put off
            self._close_in(left)
        elif not self._asking and self.more_was_sent:  # it is about to be asked
            self._close_in(GRACE_SECONDS)
        else:
            self.close()

    def _expect_output(self, before: int) -> None:
        """Cut off a client that closed its side once nothing was written to it for a moment.

        While the origin is silent nothing can tell whether it still listens, and a client that
        left must not hold an origin connection.
        """
        transport = self._client.transport
        if transport is None or self.stopped:
            return
        exchange = self._request.get(EXCHANGE) if self._request is not None else None
        if isinstance(self._running, Delivery):
            exchange = self._running.exchange
        output = self._answered + (exchange.bytes_sent if exchange is not None else 0)
        waiting = exchange.bytes_waiting if exchange is not None else 0
        if output != before or waiting or transport.get_write_buffer_size():
            loop = self._service.loop
            loop.call_later(_HALF_CLOSED_SECONDS, self._expect_output, output)
            return
        if exchange is not None:
            exchange.abort(Outcome.CLIENT_GONE)
        self.close()
