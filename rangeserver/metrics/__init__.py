"""All metrics of the server, for Prometheus.

The code that sees an event calls a method here. Labels have few, fixed values, never a key or an
address, so no client can make the number of series grow. What is counted elsewhere anyway is read
at a scrape and costs a request nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from rangeserver.metrics.origin import OriginMetrics
from rangeserver.metrics.reading import Readings, ReadMetric
from rangeserver.metrics.responses import ResponseMetrics
from rangeserver.tallies import TallyCounter

__all__ = ["Metrics", "OriginMetrics", "ReadMetric", "Readings", "ResponseMetrics"]

_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.responses = ResponseMetrics(self.registry)
        self.origin = OriginMetrics(self.registry)
        self.dropped_lines: Callable[[], int] = int
        """The number of log lines that were dropped so far."""
        lag = Histogram(
            "rangeserver_event_loop_lag_seconds",
            "How much later than asked a timer of the event loop ran.",
            buckets=_LAG_BUCKETS,
            registry=self.registry,
        )
        self.loop_lagged: Callable[[float], None] = lag.observe
        """Called with each measurement of the event loop's lag, in seconds."""
        self.registry.register(
            ReadMetric(
                CounterMetricFamily,
                "rangeserver_log_lines_dropped",
                "Log lines dropped because the log was too slow, or could not be written to.",
                (),
                lambda: [((), self.dropped_lines())],
            )
        )
        self._handshakes = TallyCounter(
            "rangeserver_tls_handshake_failures",
            "Connections that never came to a request because TLS failed, by why.",
            ("reason",),
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)

    def handshake_failed(self, reason: str) -> None:
        """A TLS handshake has failed."""
        self._handshakes.count((reason,))

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics as text in a format that ``accept`` allows, and the format's media type."""
        encode, media_type = choose_encoder(accept)
        return encode(_WithoutCreated(self.registry)), media_type


class _WithoutCreated(Collector):
    """Leaves out the creation time of each series: they double the text, and nobody uses them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample for sample in metric.samples if not sample.name.endswith("_created")
            ]
            yield metric
