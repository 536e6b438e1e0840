"""From the record of an exchange to the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rangeserver.metrics import ResponseMetrics
from rangeserver.web.exchange import Exchange, Outcome

_OWN = "none"
"""The source of what the server says itself: errors, answers without a body."""


class ExchangeCounter:
    """Counts each finished exchange, and those that are ``running`` as far as they are."""

    def __init__(self, metrics: ResponseMetrics, running: Iterable[Exchange]) -> None:
        self._metrics = metrics
        self._exchanges = running
        metrics.running = self._running

    def __call__(self, exchange: Exchange) -> None:
        """Count one exchange."""
        started = exchange.started
        finished = exchange.finished
        first_byte = exchange.first_byte
        self._metrics.finished(
            exchange.method,
            exchange.status,
            exchange.outcome or Outcome.FAILED,
            exchange.source or _OWN,
            sent=exchange.bytes_sent,
            first_byte=first_byte - started if first_byte is not None else None,
            duration=(finished if finished is not None else time.monotonic()) - started,
        )

    def _running(self) -> Iterable[tuple[str, int]]:
        return [(exchange.source or _OWN, exchange.bytes_sent) for exchange in self._exchanges]
