"""Sends a resident response from the event loop's own callbacks, without a task.

Whenever the socket has no more room, the loop calls again once it has. If the next bytes turn out
not to be in memory, a task sends the rest in the usual way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rangeserver.origin.base import Objects, Part, ResidentRead, reporting
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.web.body_writer import BodyWriter, send_body
from rangeserver.web.cut_off import cut_off
from rangeserver.web.exchange import Exchange, Outcome, outcome_of
from rangeserver.web.exchanges import Exchanges
from rangeserver.web.flush import Client


class Delivery:
    """One response on its way out; only a head if ``resident`` is ``None``. ``over`` is called
    once, when all is sent or nothing more will be.
    """

    __slots__ = (
        *("_client", "_exchanges", "_facts", "_handed_over", "_resident", "_origin", "_over"),
        *("_writer", "_span", "_task", "_waits", "exchange"),
    )

    def __init__(
        self,
        exchanges: Exchanges,
        client: Client,
        writer: BodyWriter,
        origin: Objects[Part],
        facts: ObjectFacts,
        span: ByteSpan,
        resident: ResidentRead | None,
    ) -> None:
        self._exchanges = exchanges
        self._client = client
        self._writer = writer
        self._origin = origin
        self._facts = facts
        self._span = span
        self._resident = resident
        self.exchange: Exchange = writer.exchange
        self._waits = False
        self._handed_over = False
        self._task: asyncio.Task[None] | None = None

    def begin(self, head: bytes, descriptor: int, over: Callable[[], None]) -> None:
        """Send what the socket, which has ``descriptor``, takes now of head and body."""
        self._over = over
        resident = self._resident
        if not self._writer.start(self._client, head, descriptor, more=resident is not None):
            self.exchange.origin.cached = 0  # nothing of it has been used
            self._hand_over()
        elif resident is None:
            self._end(Outcome.COMPLETE)
        else:
            self._writer.take(resident.slice)
            self._go_on()

    def cancel(self) -> None:
        """Send no more: the connection is lost."""
        if self._task is not None:
            self._task.cancel()
            return
        self._writer.forget(self._go_on)
        self._end(Outcome.CLIENT_GONE)

    def _go_on(self) -> None:
        """Send what the socket takes now."""
        exchange, writer, resident = self.exchange, self._writer, self._resident
        assert resident is not None
        try:
            if writer.push():
                if writer.unsent:  # the file has it no longer
                    exchange.give_up_waiting()
                    self._hand_over()
                    return
                if exchange.bytes_sent == exchange.bytes_promised:
                    self._end(Outcome.COMPLETE)
                    return
                if not resident.advance():
                    self._hand_over()
                    return
                writer.take(resident.slice)
        except ConnectionError as error:
            cut_off(exchange, error)
            self._end(outcome_of(error))
        else:
            if exchange.first_byte is None:
                exchange.first_byte = time.monotonic()
            self._wait()
            writer.when_writable(self._go_on)

    def _hand_over(self) -> None:
        """Have a task send what is left of the head, and all of the body that has not gone."""
        self._wait()
        self._handed_over = self.exchange.origin.begun = True
        rest = ByteSpan(self._span.start + self.exchange.bytes_sent, self._span.stop)
        self._task = asyncio.get_running_loop().create_task(self._finish(rest))
        # Not in the task: one that is cancelled before its first turn has no end of its own.
        self._task.add_done_callback(self._finished)

    async def _finish(self, rest: ByteSpan) -> None:
        exchange = self.exchange
        try:
            with reporting(exchange.origin):
                segments = (rest,) if rest.length else ()
                representation = self._origin.representation(self._facts, unvalidated=True)
                await send_body(self._writer, segments, representation)
                await self._writer.finish()
        except Exception as error:  # noqa: BLE001 (logged, and the connection is reset)
            cut_off(exchange, error)

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
            self._exchanges.add(self.exchange)

    def _end(self, outcome: Outcome) -> None:
        if self._resident is not None and not self._handed_over:
            self._resident.was_read()
        self._exchanges.finish(self.exchange, outcome)
        self._over()
