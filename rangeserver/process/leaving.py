"""How a connection ends: its client closes it or leaves it idle for long, a response says so, its
place is needed, or the server stops.

Whatever was asked is answered before. A connection on which nothing is being asked ends at once; on
others the last response says that it is the last, unless its head was out already.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from rangeserver.process.closing import close_gently, has_unread
from rangeserver.process.in_turn import InTurn
from rangeserver.web.aiohttp_insides import close_after
from rangeserver.web.exchange import EXCHANGE, Outcome

_HALF_CLOSED_SECONDS = 2.0
"""How long a client that has closed its side is kept while there is nothing to write to it."""

GRACE_SECONDS = 1.0
"""Who has connected and not asked yet when the server stops has so long to do it, and so has who is
in midst of asking."""


class Leaving(InTurn):
    """A sequence of requests that comes to an end."""

    __slots__ = ("_finishing",)

    def __init__(self, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._finishing = False

    def finish(self, *, grace: bool = True) -> None:
        """End as soon as all that has been asked is answered, which is now if nothing was.

        ``grace``: who is about to ask has a moment to do it.
        """
        self._finishing = self._ends = True
        if self._deaf or self.transport is None:
            return
        if self._current_request is not None:
            self._announce_end(self._current_request)
        if self._is_busy or self._intake.ahead:
            return
        asking = not self._request_count or self._intake.head_bytes or self._more_was_sent()
        if grace and asking:
            self._loop.call_later(GRACE_SECONDS, self._grace_is_over)
        else:
            self._leave()

    def _grace_is_over(self) -> None:
        if not self._is_busy:
            self._leave()

    async def _handle_request(
        self, request: web.BaseRequest, *rest: Any
    ) -> tuple[web.StreamResponse, bool]:
        """Answer a request."""
        self._announce_end(request)
        return await super()._handle_request(request, *rest)

    def _announce_end(self, request: web.BaseRequest) -> None:
        """Have the response say that it is the last, if the connection is to end with it."""
        if self._finishing and not self._more_was_sent():
            close_after(request)

    def _more_was_sent(self) -> bool:
        """Whether there is something behind what was asked."""
        if self._intake.ahead:
            return True
        return self.transport is not None and has_unread(self.transport)

    def _end(self) -> None:
        """All that has come was answered, and the connection is to end then."""
        if self._all_asked or not self._more_was_sent():
            self._leave()
        else:
            self._idle = True
            self._loop.call_later(GRACE_SECONDS, self._grace_is_over)

    def _leave(self) -> None:
        """Take no more, and close once the client has what was written."""
        transport = self.transport
        if self._deaf:
            return
        if transport is None or self._all_asked or not (self._last or self._more_was_sent()):
            super()._leave()
            return
        self._hear_nothing()
        self._force_close = True  # for aiohttp, whose own way of closing is too short
        if self._waiter is not None:
            self._waiter.cancel()
        self._intake.take_ahead()
        self._held_back = False
        self._resume_transport_reading()
        close_gently(transport)

    @property
    def waiting_since(self) -> float | None:
        """Since when nothing is being answered; ``None`` while something is."""
        if self._is_busy or self._intake.ahead:
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def give_way(self) -> bool:
        """Close, unless the client is just asking for something; whether it does."""
        if self.waiting_since is None or self._more_was_sent():
            return False
        self.force_close()
        return True

    def _process_keepalive(self) -> None:
        """Close a connection on which nothing has been asked for long."""
        if self._delivery is not None:
            self._keepalive_handle = None
        elif self._intake.head_bytes or self._more_was_sent():  # it is about to be asked
            self._keepalive_handle = self._loop.call_later(GRACE_SECONDS, self._process_keepalive)
        else:
            super()._process_keepalive()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's closes at once
        """The client closed its side; what it asked before is still answered, then we close.

        A client that left altogether looks the same until the next write, which a reset answers.
        """
        self._all_asked = self._ends = True
        if self._deaf or not (self._is_busy or self._intake.ahead):
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
        if self._delivery is not None:
            exchange = self._delivery.exchange
        output = self._answered + (exchange.bytes_sent if exchange is not None else 0)
        waiting = exchange.bytes_waiting if exchange is not None else 0
        waiting += self.transport.get_write_buffer_size()
        if output == before and not waiting:
            if exchange is not None:
                exchange.abort(Outcome.CLIENT_GONE)
            self.force_close()
            return
        self._loop.call_later(_HALF_CLOSED_SECONDS, self._expect_output, output)
