"""Every figure the server keeps of itself, for Prometheus.

Bookkeeping only: whoever sees something happen calls a method here. Labels take few, fixed
values, never a key or an address, so that no visitor can make the list of series grow. What is
counted anyway elsewhere is read when somebody asks and costs a request nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from rangeserver.tallies import TallyCounter, TallyHistogram

_FIRST_BYTE_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
_DURATION_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""From a poster image to a long film watched at its own pace."""

_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Clients may invent methods; all others are one."""

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


class ResponseMetrics:
    """What clients got."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running: Callable[[], Iterable[tuple[str, int]]] = tuple
        """Source and bytes sent of each response that runs now: a film that plays for hours
        counts while it plays."""
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
            buckets=_FIRST_BYTE_BUCKETS,
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
        """A response has ended; times in seconds from its request."""
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


class OriginMetrics:
    """What the origin was asked and gave. Without a registry nobody reads it."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry if registry is not None else CollectorRegistry()
        self.in_use = 0
        """Origin connections that a request holds."""
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
            buckets=_FIRST_BYTE_BUCKETS,
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
        """The header of an answer has come."""
        self.unanswered(outcome)
        self._first_byte.observe(seconds)

    def unanswered(self, outcome: str) -> None:
        """A request has ended without an answer."""
        counter = self._by_outcome.get(outcome)
        if counter is None:
            counter = self._by_outcome[outcome] = self._requests.labels(outcome)
        counter.inc()

    def received(self, count: int) -> None:
        """Bytes of a body have come."""
        self._bytes.inc(count)

    def resumed(self) -> None:
        """A broken body is asked for again."""
        self._resumes.inc()

    def recalled(self) -> None:
        """A body's connection is needed for others."""
        self._recalls.inc()

    def retried(self, reason: str) -> None:
        """A failed request is repeated."""
        self._retries.labels(reason).inc()

    def hedged(self, result: str) -> None:
        """A late request was made once more, or was not."""
        self._hedges.labels(result).inc()

    def facts(self, result: str) -> None:
        """Facts were found in one of the three ways."""
        self._facts.count((result,))

    def watch_circuit(self, is_open: Callable[[], bool]) -> None:
        """Show whether one more circuit is open."""
        self._circuits.append(is_open)

    def credentials_refreshed(self, *, ok: bool) -> None:
        """Credentials were looked for, and found or not."""
        self._refreshed[ok].inc()


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.responses = ResponseMetrics(self.registry)
        self.origin = OriginMetrics(self.registry)
        self.dropped_lines: Callable[[], int] = int
        """How many log lines were dropped so far."""
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
        """Everything as text in a format that ``accept`` names, and that format's media type."""
        encode, media_type = choose_encoder(accept)
        return encode(_WithoutCreated(self.registry)), media_type


class _WithoutCreated(Collector):
    """Leaves out when each series began: twice the series, and nobody asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample for sample in metric.samples if not sample.name.endswith("_created")
            ]
            yield metric
