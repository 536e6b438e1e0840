"""Cuts off clients that make no progress. One timer a response, no cost per write.

What a client has taken is what was written less what still waits in the transport's buffer.
While that buffer is empty we are waiting for the origin, which is no fault of the client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rangeserver.web.exchange import Exchange, Outcome


@dataclass(frozen=True, slots=True)
class ClientDeadlines:
    """The least a client must do, in seconds and bytes per second."""

    write_idle_seconds: float
    min_bytes_per_second: int
    min_rate_grace_seconds: float


class ClientProgress:
    """Watches one response from its first byte to its end; use as a context manager."""

    def __init__(self, exchange: Exchange, deadlines: ClientDeadlines) -> None:
        self._exchange = exchange
        self._deadlines = deadlines
        self._interval = min(deadlines.write_idle_seconds, deadlines.min_rate_grace_seconds) / 4
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._taken = 0
        self._idle = 0.0
        self._waited = 0.0

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._interval, self._look)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        transport = self._exchange.transport
        waiting = transport.get_write_buffer_size() if transport is not None else 0
        waiting += self._exchange.bytes_waiting
        taken = self._exchange.bytes_sent - waiting
        if waiting:
            self._waited += self._interval
            self._idle = self._idle + self._interval if taken <= self._taken else 0.0
        else:
            self._idle = 0.0
        self._taken = max(taken, self._taken)
        if self._too_slow():
            self._exchange.abort(Outcome.CLIENT_TOO_SLOW)
            return
        self._timer = self._loop.call_later(self._interval, self._look)

    def _too_slow(self) -> bool:
        deadlines = self._deadlines
        if self._idle >= deadlines.write_idle_seconds:
            return True
        if self._waited < deadlines.min_rate_grace_seconds:
            return False
        return self._taken < deadlines.min_bytes_per_second * self._waited
