"""Counters and histograms for what happens thousands of times a second.

prometheus_client's own take a lock for each number and check each time what they are. These are
plain numbers, of one thread, that become metrics when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class TallyCounter(Collector):
    """Counts by the values of its labels; those in ``known`` are shown from the start."""

    def __init__(
        self,
        name: str,
        text: str,
        label_names: Labels = (),
        *,
        known: Iterable[Labels] = (),
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._label_names = name, text, label_names
        self.counts: dict[Labels, float] = dict.fromkeys(known, 0)
        registry.register(self)

    def count(self, labels: Labels = (), by: float = 1) -> None:
        """Something happened."""
        self.counts[labels] = self.counts.get(labels, 0) + by

    def describe(self) -> Iterable[Metric]:
        """Its name and type."""
        yield CounterMetricFamily(self._name, self._text, labels=self._label_names)

    def collect(self) -> Iterable[Metric]:
        """What stands there now."""
        family = CounterMetricFamily(self._name, self._text, labels=self._label_names)
        for labels, value in self.counts.items():
            family.add_metric(labels, value)
        yield family


class TallyHistogram(Collector):
    """Sorts values into buckets, by the values of its labels; without labels it is always shown."""

    def __init__(
        self,
        name: str,
        text: str,
        label_names: Labels = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._label_names = name, text, label_names
        self._bounds = tuple(buckets)
        self._kept: dict[Labels, _Sorted] = {}
        if not label_names:
            self._kept[()] = _Sorted(len(self._bounds))
        registry.register(self)

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Sort in one value."""
        kept = self._kept.get(labels)
        if kept is None:
            kept = self._kept[labels] = _Sorted(len(self._bounds))
        kept.counts[bisect_left(self._bounds, value)] += 1
        kept.total += value

    def describe(self) -> Iterable[Metric]:
        """Its name and type."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._label_names)

    def collect(self) -> Iterable[Metric]:
        """What stands there now."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._label_names)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, kept in self._kept.items():
            up_to = list(zip(names, accumulate(kept.counts), strict=True))
            family.add_metric(labels, up_to, kept.total)
        yield family


class _Sorted:
    """How many values lie in each bucket, the last one without bound, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.total = 0.0
