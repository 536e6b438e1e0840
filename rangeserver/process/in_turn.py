"""The requests of one connection, answered one after the other.

Of what a client sends, only the request that is being answered is parsed: what lies behind it waits
as it came (:mod:`.intake`), so that a connection can make us hold so much and no more. An answer
on the fast path is given as its request arrives; any other by aiohttp's task.

Longer than 300 lines, because it works around the queue, the waiter and the timers of aiohttp's
handler, which share their state with all of it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import EMPTY_PAYLOAD, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from rangeserver.process.framing import end_is_certain, next_is_lost
from rangeserver.process.intake import AHEAD_BYTES, END_OF_HEAD, HEAD_BYTES, Intake
from rangeserver.web.aiohttp_insides import RefusedMessage
from rangeserver.web.delivery import Delivery
from rangeserver.web.fast_path import FastPath

log = logging.getLogger(__name__)

_BODY_BUFFER_BYTES = 16 * 1024
"""Bodies of requests are read only to be thrown away; aiohttp keeps twice as much and a part."""


class InTurn(web.RequestHandler):
    """One connection, as a sequence of requests."""

    __slots__ = (
        *("_all_asked", "_answered", "_body", "_deaf", "_delivery", "_descriptor"),
        *(
            "_ends",
            "_fast_path",
            "_head_seconds",
            "_head_timer",
            "_held_back",
            "_idle",
            "_intake",
            "_last",
        ),
        "peer",
    )

    def __init__(self, server: web.Server, *, header_seconds: float, **options: Any) -> None:
        super().__init__(server, read_bufsize=_BODY_BUFFER_BYTES, **options)
        self.peer = ""
        self._intake = Intake()
        self._answered = 0
        self._fast_path: FastPath | None = None
        self._descriptor = -1
        self._delivery: Delivery | None = None
        self._body: StreamReader | None = None
        """What has not come yet of the body of the last request."""
        self._head_seconds = header_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._held_back = False
        self._all_asked = False
        """Whether the client has closed its side."""
        self._ends = False
        """Whether the connection is to end once all that has come is answered."""
        self._last = False
        """Whether the response to the last request has said that it is the last."""
        self._deaf = False
        """Whether nothing is heard any more."""
        self._idle = True
        """Whether all that has come is answered, so that the next thing that comes is a request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is left to be answered."""
        super().connection_lost(exc)
        self._head_is_whole()
        if self._delivery is not None:
            self._delivery.client_left()

    # --- what the client sends

    @property
    def _is_busy(self) -> bool:
        """Whether a request is being answered, or the end of its body waited for."""
        return self._request_count != self._answered or self._body is not None

    def data_received(self, data: bytes) -> None:
        """Take what the client sends: now, if nothing is being answered."""
        if self._idle and data:
            self._idle = False
            if data.find(END_OF_HEAD) == len(data) - 4 < HEAD_BYTES - 4:
                self._feed(data)  # just what a request without a body has, as it mostly comes
            else:
                self._take(data)
            return
        if self._deaf:
            return
        intake = self._intake
        if not data or intake.body_due != 0:
            # Of a body; or aiohttp goes on with one that it had let wait.
            self._feed_body(intake.cut_body(data) if data else data)
        elif self._last:
            return
        elif intake.ahead or self._request_count != self._answered or self._body is not None:
            intake.ahead += data
        else:
            self._take(data)
            return
        if not self._held_back and len(intake.ahead) >= AHEAD_BYTES:
            self._held_back = True
            self._pause_transport_reading()

    def _hear_on(self) -> None:
        """Read on, if what was read is not too much any more."""
        if self._held_back and len(self._intake.ahead) < AHEAD_BYTES:
            self._held_back = False
            if not self._reading_paused:
                self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """Aiohttp wants to read on."""
        if not self._held_back:
            super()._resume_transport_reading()

    def _next(self) -> None:
        """Go on to the next request, with what of it has come already."""
        if self._parser is None or self._is_busy or self._last or self._deaf:
            return
        self._parser.message_consumed()  # aiohttp forgets those whose body came late, and stops
        if self._intake.uncut:
            self._feed(b"")
            if self._is_busy:
                return
        ahead = self._intake.take_ahead()
        if ahead:
            self._take(ahead)
        elif not self._intake.head_bytes:
            self._idle = True
            if self._ends:
                self._end()
        self._hear_on()

    def _take(self, data: bytes) -> None:
        piece = self._intake.cut(data)
        if self._intake.head_bytes <= HEAD_BYTES:
            self._feed(piece)
            return
        self._messages.append(_bad_request(LineTooLong(piece[:100], HEAD_BYTES)))
        self._request_count += 1
        self._last = True
        self._head_is_whole()
        self._intake.head_bytes = 0
        self._wake(self._waiter)

    def _feed(self, piece: bytes) -> None:
        """Give the parser a piece of the next request, and begin to answer that if it is whole."""
        # Or aiohttp's task would be told of the request before we have seen it.
        waiter, self._waiter = self._waiter, None
        try:
            super().data_received(piece)
        finally:
            self._waiter = waiter
        if self._request_count == self._answered:
            self._await_rest()
            return
        if self._head_timer is not None:
            self._head_is_whole()
        self._intake.head_bytes = 0
        message, payload = self._messages[-1]
        if (
            payload is EMPTY_PAYLOAD
            and self._fast_path is not None
            and not isinstance(message, RefusedMessage)
            and self._takes_fast_path(message)
        ):
            return
        self._note_what_follows()
        self._wake(waiter)

    def _feed_body(self, piece: bytes) -> None:
        """The same of a body. Where chunks end and a request begins only the parser knows."""
        before = self._request_count
        super().data_received(piece)
        if self._request_count != before:
            self._note_what_follows()

    def _note_what_follows(self) -> None:
        """A body may belong to the last message, or nothing follows it."""
        message, payload = self._messages[-1]
        if isinstance(message, RefusedMessage):
            self._last = True
        elif not end_is_certain(message):
            self._messages[-1] = _bad_request(BadHttpMessage("its end is uncertain"))
            self._last = True
        elif not payload.is_eof():
            if next_is_lost(message):
                self._messages[-1] = (message._replace(should_close=True), payload)
            self._await_body(message, payload)

    def _await_body(self, message: RawRequestMessage, payload: StreamReader) -> None:
        intake = self._intake
        intake.body_due = None if message.chunked else int(message.headers[hdrs.CONTENT_LENGTH])
        self._body = payload
        payload.on_eof(self._body_over)
        if not intake.ahead:
            return
        self._feed_body(intake.cut_body(intake.take_ahead()))
        self._hear_on()
        if self._last and len(self._messages) == 2:  # it is not even a request
            self._messages.popleft()
            self._request_count -= 1

    def _body_over(self) -> None:
        self._body = None
        self._intake.body_due = 0
        self._loop.call_soon(self._next)  # for now, the parser is at work

    def _wake(self, waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _await_rest(self) -> None:
        """Nothing whole has come: empty lines, or the beginning of a head."""
        if self._intake.ahead:
            self._loop.call_soon(self._next)
        elif self._all_asked:
            self._leave()
        elif self._head_timer is None and self._intake.head_bytes:
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._head_seconds, self._head_is_late)

    def _head_is_whole(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self.force_close()

    # --- what it is answered

    def _takes_fast_path(self, message: RawRequestMessage) -> bool:
        """Begin to answer the one request that there is, if it takes no waiting."""
        transport = self.transport
        if (
            self._all_asked
            or len(self._messages) != 1
            or transport is None
            or transport.get_write_buffer_size()
        ):
            return False
        assert self._fast_path is not None
        try:
            answer = self._fast_path(message, self, self.peer)
        except Exception:  # nothing is sent: it will be met again on the usual way
            log.debug("the fast path failed", exc_info=True)
            return False
        if answer is None:
            return False
        assert self._manager is not None
        assert self._parser is not None
        self._messages.clear()
        self._parser.message_consumed()
        self._manager.requests_count += 1
        self._delivery, head = answer
        self._delivery.begin(head, self._descriptor, self._answer_over)
        return True

    def _answer_over(self) -> None:
        """Do what aiohttp does between a response and the next request."""
        self._delivery = None
        self._answered += 1
        if self._manager is not None:
            close_time = self._loop.time() + self._keepalive_timeout
            self._next_keepalive_close_time = close_time
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)
        self._go_on()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response, if that was not done, and go on to the next request."""
        resp, reset = await super().finish_response(request, resp, start_time)
        self._answered += 1
        if reset or self._body is not None:
            self._last = self._last or not resp.keep_alive  # aiohttp does the rest
        elif resp.keep_alive:
            self._go_on()
        else:
            self._leave()
        return resp, reset

    def _go_on(self) -> None:
        """A request was answered."""
        if self._intake.ahead or self._intake.uncut:
            self._loop.call_soon(self._next)
        elif self._ends:
            self._end()
        else:
            self._idle = True

    def _end(self) -> None:
        """All that has come was answered, and the connection is to end then."""
        self._leave()

    def _leave(self) -> None:
        """Take no more, and close."""
        self._hear_nothing()
        self.force_close()

    def _hear_nothing(self) -> None:
        self._deaf, self._idle = True, False


def _bad_request(error: BadHttpMessage) -> tuple[RefusedMessage, StreamReader]:
    """What aiohttp answers with 400, as if its parser had refused it."""
    return RefusedMessage(400, error, error.message), EMPTY_PAYLOAD
