"""Metrics of the responses to clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import CollectorRegistry

from rangeserver.metrics.reading import FIRST_BYTE_BUCKETS, ReadMetric
from rangeserver.tallies import TallyCounter, TallyHistogram

_DURATION_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Seconds, from a poster image to a long film that is watched."""

_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Clients may invent methods: all others are one label."""


class ResponseMetrics:
    """Responses to clients."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running: Callable[[], Iterable[tuple[str, int]]] = tuple
        """The source and the bytes sent of each running response: a film of hours counts while it
        plays."""
        self._responses = TallyCounter(
            "rangeserver_responses",
            "Responses that ended, by how they ended.",
            ("method", "status", "outcome"),
            registry=registry,
        )
        self._first_byte = TallyHistogram(
            "rangeserver_time_to_first_byte_seconds",
            "From a request to the first byte of its body, or to its header if it has none.",
            ("source",),
            buckets=FIRST_BYTE_BUCKETS,
            registry=registry,
        )
        self._duration = TallyHistogram(
            "rangeserver_response_duration_seconds",
            "From a request to the end of its response.",
            buckets=_DURATION_BUCKETS,
            registry=registry,
        )
        self._bytes: dict[str, int] = {}
        registry.register(
            ReadMetric(
                CounterMetricFamily,
                "rangeserver_response_bytes",
                "Body bytes handed to client connections, running responses included.",
                ("source",),
                lambda: [((source,), sent) for source, sent in self.sent().items()],
            )
        )
        registry.register(
            ReadMetric(
                GaugeMetricFamily,
                "rangeserver_active_streams",
                "Requests being answered now.",
                (),
                lambda: [((), sum(1 for _ in self.running()))],
            )
        )

    def finished(
        self,
        method: str,
        status: int,
        outcome: str,
        source: str,
        *,
        sent: int,
        first_byte: float | None,
        duration: float,
    ) -> None:
        """A response has ended. Times are in seconds from its request."""
        known_method = method if method in _METHODS else "other"
        self._responses.count((known_method, str(status), outcome))
        self._bytes[source] = self._bytes.get(source, 0) + sent
        if first_byte is not None:
            self._first_byte.observe(first_byte, (source,))
        self._duration.observe(duration)

    def sent(self) -> dict[str, int]:
        """Body bytes by their source, running responses included."""
        total = dict(self._bytes)
        for source, sent in self.running():
            total[source] = total.get(source, 0) + sent
        return total
