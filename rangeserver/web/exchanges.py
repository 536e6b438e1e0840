"""The exchanges that are running, and the one place where an exchange ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from aiohttp import web

from rangeserver.web.client_progress import ClientDeadlines, ProgressWatch
from rangeserver.web.exchange import Exchange, Outcome

ExchangeObserver = Callable[[Exchange], None]
"""Called once an exchange has ended. Must not block or raise."""


class Exchanges:
    """All exchanges of one server. Clients of those that are running are cut off if they do less
    than ``deadlines`` ask for.
    """

    def __init__(self, deadlines: ClientDeadlines) -> None:
        self.draining = False
        """Whether the server is stopping and takes no new requests."""
        self.observers: Sequence[ExchangeObserver] = ()
        """They see each exchange that has ended, however it was answered."""
        self.watch = ProgressWatch(deadlines)
        self._running: set[Exchange] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __iter__(self) -> Iterator[Exchange]:
        return iter(tuple(self._running))

    def __len__(self) -> int:
        return len(self._running)

    def add(self, exchange: Exchange) -> None:
        """An exchange is running. One that ends before it ever waits need not be added."""
        self._running.add(exchange)
        self.watch.begin(exchange)
        self._none.clear()

    def finish(self, exchange: Exchange, outcome: Outcome) -> None:
        """End an exchange: nothing more is sent for it. The first outcome given stands, and an
        exchange that has ended already is left as it is.
        """
        if exchange.finished is not None:
            return
        exchange.give_up_waiting()
        exchange.outcome = exchange.outcome or outcome
        exchange.finished = time.monotonic()
        if exchange.first_byte is None and exchange.outcome is Outcome.COMPLETE:
            exchange.first_byte = exchange.finished
        if exchange in self._running:
            self.watch.end(exchange)
            self._running.remove(exchange)
            if not self._running:
                self._none.set()
        for observe in self.observers:
            observe(exchange)

    async def wait_for_none(self) -> None:
        """Return once no exchange is running."""
        await self._none.wait()

    def close(self) -> None:
        """Stop the timer."""
        self.watch.close()


EXCHANGES = web.AppKey("exchanges", Exchanges)
