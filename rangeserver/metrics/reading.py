"""Metrics whose values are kept elsewhere and read at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

FIRST_BYTE_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Seconds to a first byte, to a client or from the origin."""

Readings = Iterable[tuple[tuple[str, ...], float]]
"""Label values, and the current value."""


class ReadMetric(Collector):
    """A metric whose values ``read`` returns at a scrape."""

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
        """Its current values."""
        family = self._family(self._name, self._text, labels=self._labels)
        for labels, value in self._read():
            family.add_metric(labels, value)
        yield family
