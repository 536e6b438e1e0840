"""Prometheus metrics of the cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

from prometheus_client import Counter
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import CollectorRegistry

from rangeserver.metrics import Readings, ReadMetric
from rangeserver.tallies import TallyCounter


class CacheMetrics:
    """Counters of one process; for tests without a registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self.in_flight: Callable[[], int] = int
        """Bytes requested from the origin that have not arrived."""
        self.usable: Callable[[], bool] = bool
        """Whether the directory can be written."""
        self.max_bytes = 0
        """What it may occupy."""
        self.disk_bytes: Callable[[], int | None] = _unknown
        """What it occupies; ``None`` if not known yet."""
        self._hits = TallyCounter(
            "rangeserver_cache_hits",
            "Spans of bytes read for clients that were on the disk as a whole.",
            known=[()],
            registry=registry,
        )
        self._misses = Counter(
            "rangeserver_cache_misses",
            "Spans of bytes read for clients of which something had to be fetched or waited for.",
            registry=registry,
        )
        self._bypassed = Counter(
            "rangeserver_cache_bypassed",
            "Spans of bytes read for clients past the cache: it could not be used, must not, "
            "or they were too few to keep blocks for.",
            registry=registry,
        )
        self._evictions = Counter(
            "rangeserver_cache_evictions",
            "Objects removed from the disk to make room.",
            registry=registry,
        )
        self._errors = Counter(
            "rangeserver_cache_errors",
            "What went wrong: files that could not be read or written, blocks that were damaged, "
            "files in the directory that are none of ours, files too many to be open at a time.",
            ("kind",),
            registry=registry,
        )
        self._stale = Counter(
            "rangeserver_cache_stale_answers",
            "Times an object was taken to be as it was because the origin could not be asked.",
            registry=registry,
        )
        for kind in ("read", "write", "damaged", "foreign", "descriptors"):
            self._errors.labels(kind)
        self.hit: Callable[[], None] = self._hits.count
        self.missed: Callable[[], None] = self._misses.inc
        self.bypassed: Callable[[], None] = self._bypassed.inc
        self.served_stale: Callable[[], None] = self._stale.inc
        gauges: tuple[tuple[str, str, Callable[[], float | None]], ...] = (
            (
                "rangeserver_cache_bytes",
                "What the cache takes of the disk, all processes together, removed files that "
                "are still open included.",
                lambda: self.disk_bytes(),
            ),
            (
                "rangeserver_buffered_bytes",
                "Bytes asked for at the origin for the cache that have not come yet.",
                lambda: self.in_flight(),
            ),
            (
                "rangeserver_cache_usable",
                "1 if the cache directory can be written, 0 if what is missing passes it by.",
                lambda: float(self.usable()),
            ),
        )
        for name, text, read in gauges:
            registry.register(
                ReadMetric(
                    *(GaugeMetricFamily, name, text, ()),
                    functools.partial(_known, read),
                )
            )

    def evicted(self, count: int) -> None:
        """Count files that were removed to make room."""
        self._evictions.inc(count)

    def failed(self, kind: str, count: int = 1) -> None:
        """Count an error; ``kind`` is one of the labels above."""
        self._errors.labels(kind).inc(count)


def _unknown() -> int | None:
    return None


def _known(read: Callable[[], float | None]) -> Readings:
    value = read()
    return [((), value)] if value is not None else []
