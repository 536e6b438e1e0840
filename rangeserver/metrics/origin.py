"""Metrics of the requests to origins."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import CollectorRegistry

from rangeserver.metrics.reading import FIRST_BYTE_BUCKETS, ReadMetric
from rangeserver.tallies import TallyCounter


class OriginMetrics:
    """Requests to origins and what came of them. Without a registry nothing is exposed."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self.in_use = 0
        """Origin connections that requests hold."""
        self.waiting = 0
        """Requests that wait for one."""
        self._requests = Counter(
            "rangeserver_origin_requests",
            "HTTP requests to the origin, each attempt counted, by what came of it.",
            ("outcome",),
            registry=registry,
        )
        self._first_byte = Histogram(
            "rangeserver_origin_time_to_first_byte_seconds",
            "From a request to the origin to the header of its answer, connecting included.",
            buckets=FIRST_BYTE_BUCKETS,
            registry=registry,
        )
        self._bytes = Counter(
            "rangeserver_origin_bytes", "Body bytes taken from the origin.", registry=registry
        )
        self._resumes = Counter(
            "rangeserver_origin_resumes",
            "Attempts at continuing a body that broke at the origin.",
            registry=registry,
        )
        self._recalls = Counter(
            "rangeserver_origin_recalls",
            "Origin connections taken from a body for others who waited; it is continued later.",
            registry=registry,
        )
        refreshes = Counter(
            "rangeserver_credentials_refreshes",
            "Look-ups of the origin's credentials, by what came of them.",
            ("outcome",),
            registry=registry,
        )
        self._refreshed = {True: refreshes.labels("ok"), False: refreshes.labels("failed")}
        self._retries = Counter(
            "rangeserver_origin_retries",
            "Requests to the origin that repeat a failed one, by why it failed.",
            ("reason",),
            registry=registry,
        )
        self._hedges = Counter(
            "rangeserver_origin_hedges",
            "Late requests to the origin: made once more and answered first (won) or not (lost), "
            "or not made once more, to spare the origin (suppressed).",
            ("result",),
            registry=registry,
        )
        self._facts = TallyCounter(
            "rangeserver_object_facts",
            "How the size and version of an object were found: known, shared with another request "
            "that asked, or asked for.",
            ("result",),
            known=[("known",), ("shared",), ("asked",)],
            registry=registry,
        )
        self._circuits: list[Callable[[], bool]] = []
        registry.register(
            ReadMetric(
                GaugeMetricFamily,
                "rangeserver_origin_circuit_open",
                "Origins that are not asked at the moment, for they did not answer.",
                (),
                lambda: [((), sum(is_open() for is_open in self._circuits))],
            )
        )
        self._by_outcome: dict[str, Counter] = {}
        registry.register(
            ReadMetric(
                GaugeMetricFamily,
                "rangeserver_origin_connections",
                "Origin connections in use, and requests waiting for one.",
                ("state",),
                lambda: [(("in_use",), self.in_use), (("waiting",), self.waiting)],
            )
        )

    def answered(self, outcome: str, seconds: float) -> None:
        """The head of an answer has come, after ``seconds``."""
        self.unanswered(outcome)
        self._first_byte.observe(seconds)

    def unanswered(self, outcome: str) -> None:
        """A request has ended, by ``outcome``."""
        counter = self._by_outcome.get(outcome)
        if counter is None:
            counter = self._by_outcome[outcome] = self._requests.labels(outcome)
        counter.inc()

    def received(self, count: int) -> None:
        """``count`` bytes of a body have come."""
        self._bytes.inc(count)

    def resumed(self) -> None:
        """A body that broke is continued."""
        self._resumes.inc()

    def recalled(self) -> None:
        """A body has lost its connection to a request that waited."""
        self._recalls.inc()

    def retried(self, reason: str) -> None:
        """A failed request is repeated."""
        self._retries.labels(reason).inc()

    def hedged(self, result: str) -> None:
        """A late request was sent twice, or could have been."""
        self._hedges.labels(result).inc()

    def facts(self, result: str) -> None:
        """Facts were known, shared or asked for."""
        self._facts.count((result,))

    def watch_circuit(self, is_open: Callable[[], bool]) -> None:
        """Count one more circuit breaker, if it is open at a scrape."""
        self._circuits.append(is_open)

    def credentials_refreshed(self, *, ok: bool) -> None:
        """A lookup of credentials has ended."""
        self._refreshed[ok].inc()
