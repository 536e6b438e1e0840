"""Metrics that are kept elsewhere, and read when a scrape asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

FIRST_BYTE_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Seconds to a first byte, sent to a client or received from the origin."""

Readings = Iterable[tuple[tuple[str, ...], float]]
"""Label values and what stands there now."""


class ReadMetric(Collector):
    """A metric that is kept elsewhere and read when it is asked for."""

    def __init__(
        self,
        family: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        text: str,
        labels: tuple[str, ...],
        read: Callable[[], Readings],
    ) -> None:
        self._family = family
        self._name = name
        self._text = text
        self._labels = labels
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Its name and type."""
        yield self._family(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterable[Metric]:
        """What stands there now."""
        family = self._family(self._name, self._text, labels=self._labels)
        for labels, value in self._read():
            family.add_metric(labels, value)
        yield family
