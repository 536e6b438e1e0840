"""Cuts off clients that make no progress. One timer for all responses, no cost per write.

What a client has taken is what was written less what still waits in the transport's buffer.
While that buffer is empty we are waiting for the origin, which is no fault of the client.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rangeserver.web.exchange import Exchange, Outcome


@dataclass(frozen=True, slots=True)
class ClientDeadlines:
    """The least a client must do, in seconds and bytes per second."""

    write_idle_seconds: float
    min_bytes_per_second: int
    min_rate_grace_seconds: float


class ProgressWatch:
    """Looks at every response that is being sent, four times within the shorter deadline."""

    def __init__(self, deadlines: ClientDeadlines) -> None:
        self._deadlines = deadlines
        self._interval = min(deadlines.write_idle_seconds, deadlines.min_rate_grace_seconds) / 4
        self._watched: dict[Exchange, _Progress | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, exchange: Exchange) -> None:
        """Watch a response from now on."""
        self._watched[exchange] = None
        if self._timer is None:
            self._look_later()

    def end(self, exchange: Exchange) -> None:
        """A response has ended."""
        self._watched.pop(exchange, None)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self._look)

    def _look(self) -> None:
        for exchange, progress in tuple(self._watched.items()):
            if progress is None:  # it began somewhere within the interval that has passed
                self._watched[exchange] = _Progress(exchange.bytes_sent - _waiting(exchange))
            elif progress.too_slow(exchange, self._interval, self._deadlines):
                self.end(exchange)
                exchange.abort(Outcome.CLIENT_TOO_SLOW)
        self._timer = None
        if self._watched:
            self._look_later()


@dataclass(slots=True)
class _Progress:
    """What one client has taken, and for how many seconds it was waited for."""

    taken: int
    idle: float = 0.0
    waited: float = 0.0

    def too_slow(self, exchange: Exchange, passed: float, deadlines: ClientDeadlines) -> bool:
        """Account for ``passed`` seconds since the last look."""
        waiting = _waiting(exchange)
        taken = exchange.bytes_sent - waiting
        if waiting:
            self.waited += passed
            self.idle = self.idle + passed if taken <= self.taken else 0.0
        else:
            self.idle = 0.0
        self.taken = max(taken, self.taken)
        if self.idle >= deadlines.write_idle_seconds:
            return True
        if self.waited < deadlines.min_rate_grace_seconds:
            return False
        return self.taken < deadlines.min_bytes_per_second * self.waited


def _waiting(exchange: Exchange) -> int:
    """Bytes that were written and that the kernel has not taken over."""
    transport = exchange.transport
    kept = transport.get_write_buffer_size() if transport is not None else 0
    return kept + exchange.bytes_waiting
