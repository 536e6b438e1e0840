"""One answer that is given from the loop's own callbacks, without a task for as long as it can.

The kernel takes the bytes from a file; whenever it has no more room, it is waited for without
anybody waiting. Should the next bytes not be at hand any more, a task sends the rest as always.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rangeserver.errors import StreamAborted
from rangeserver.origin.base import Held, Opened, Origin, Part, reporting
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.web.exchange import ActiveExchanges, Exchange, ExchangeObserver, Outcome
from rangeserver.web.flush import Client
from rangeserver.web.relay import Relay
from rangeserver.web.sendfile import Push, send_now

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Around:
    """What is around every direct answer: whoever sends in its place, and whoever hears of it."""

    relay: Relay
    active: ActiveExchanges
    observers: Sequence[ExchangeObserver]


class DirectAnswer:
    """The way of one response out, of a head alone without ``held``. ``over`` is called once, when
    all is sent or nothing more is.
    """

    __slots__ = (
        *("_around", "_client", "_descriptor", "_facts", "_handed_over", "_held"),
        *("_origin", "_over", "_push", "_span", "_task", "_transport", "_waits", "exchange"),
    )

    def __init__(
        self,
        around: Around,
        client: Client,
        exchange: Exchange,
        origin: Origin[Part],
        facts: ObjectFacts,
        span: ByteSpan,
        held: Held | None,
    ) -> None:
        self._around = around
        self._client = client
        self._origin = origin
        self._facts = facts
        self._span = span
        self._held = held
        self.exchange = exchange
        self._waits = False
        self._handed_over = False
        self._task: asyncio.Task[None] | None = None

    def begin(self, head: bytes, descriptor: int, over: Callable[[], None]) -> None:
        """Send what the socket, which has ``descriptor``, takes now of head and body."""
        assert self.exchange.transport is not None
        self._transport = self.exchange.transport
        self._descriptor = descriptor
        self._over = over
        self.exchange.response_begun = True
        head = send_now(descriptor, head, more=self._held is not None)
        if head:
            self.exchange.origin.cached = 0  # nothing of it has been used
            self._hand_over(head)
            return
        if self._held is None:
            self._end(Outcome.COMPLETE)
            return
        self._take(self._held)
        self._go_on()

    def client_left(self) -> None:
        """The connection is closed."""
        if self._task is not None:
            self._task.cancel()
            return
        self._around.relay.room.forget(self._descriptor, self._go_on)
        self._end(Outcome.CLIENT_GONE)

    def _take(self, held: Held) -> None:
        part = held.slice
        self.exchange.bytes_sent += part.length
        self.exchange.bytes_waiting = part.length  # counted as sent, though nothing has left yet
        self._push = Push(self._transport, self._descriptor, self.exchange, part)

    def _go_on(self) -> None:
        """Send what the socket takes now."""
        exchange = self.exchange
        try:
            if self._push():
                if self._push.left:  # the file has it no longer
                    exchange.give_up_waiting()
                    self._hand_over(b"")
                    return
                if exchange.bytes_sent == exchange.bytes_promised:
                    self._end(Outcome.COMPLETE)
                    return
                assert self._held is not None
                if not self._held.advance():
                    self._hand_over(b"")
                    return
                self._take(self._held)
        except ConnectionError:
            exchange.abort(Outcome.CLIENT_GONE)
            self._end(Outcome.CLIENT_GONE)
        else:
            if exchange.first_byte is None:
                exchange.first_byte = time.monotonic()
            self._wait()
            self._around.relay.room.tell(self._descriptor, self._go_on, full=self._push.full)

    def _hand_over(self, head: bytes) -> None:
        """Have a task send what is left of the head, and all of the body that has not gone."""
        self._wait()
        self._handed_over = self.exchange.origin.begun = True
        rest = ByteSpan(self._span.start + self.exchange.bytes_sent, self._span.stop)
        self._task = asyncio.get_running_loop().create_task(self._finish(head, rest))
        # Not in the task: one that is cancelled before its first turn has no end of its own.
        self._task.add_done_callback(self._finished)

    async def _finish(self, head: bytes, rest: ByteSpan) -> None:
        exchange, relay = self.exchange, self._around.relay
        try:
            with reporting(exchange.origin):
                opened: Opened[Part] = Opened(self._facts, rest)
                await relay.go_on(self._client, exchange, head, self._origin, opened)
        except StreamAborted as aborted:
            log.warning("request %s: response aborted: %s", exchange.request_id, aborted)
        except ConnectionError:
            pass  # as the exchange says
        except Exception:
            log.exception("request %s: unexpected error", exchange.request_id)
            exchange.abort(Outcome.FAILED)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._task = None
        # Cancelled, all may count as sent, and lie in a transport that is gone.
        all_sent = self.exchange.bytes_sent == self.exchange.bytes_promised
        complete = all_sent and not task.cancelled()
        self._end(Outcome.COMPLETE if complete else Outcome.CLIENT_GONE)

    def _wait(self) -> None:
        """From now on it is one of those that are running."""
        if not self._waits:
            self._waits = True
            self._around.active.add(self.exchange)
            self._around.relay.watch.begin(self.exchange)

    def _end(self, outcome: Outcome) -> None:
        """The first reason given stands."""
        exchange = self.exchange
        exchange.give_up_waiting()
        exchange.outcome = exchange.outcome or outcome
        exchange.finished = time.monotonic()
        if outcome is Outcome.COMPLETE and exchange.first_byte is None:
            exchange.first_byte = exchange.finished
        if self._held is not None and not self._handed_over:
            self._held.was_read()
        if self._waits:
            self._around.relay.watch.end(exchange)
            self._around.active.remove(exchange)
        for observe in self._around.observers:
            observe(exchange)
        self._over()
