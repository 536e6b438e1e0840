from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from rangeserver.tallies import TallyCounter, TallyHistogram

BOUNDS = (0.5, 1.0, 10.0)
VALUES = (0.0, 0.5, 0.6, 1.0, 9.9, 10.0, 11.0)


def exposed(registry: CollectorRegistry) -> list[str]:
    """The lines of an exposition but for the times at which series began."""
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_a_counter_reads_like_that_of_the_library() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = TallyCounter("x", "Text.", ("kind",), registry=ours)
    counter = Counter("x", "Text.", ("kind",), registry=theirs)
    for kind, by in (("a", 1), ("b", 2), ("a", 3)):
        tally.count((kind,), by)
        counter.labels(kind).inc(by)
    assert exposed(ours) == exposed(theirs)


def test_series_that_are_known_are_shown_before_they_count() -> None:
    registry = CollectorRegistry()
    TallyCounter("x", "Text.", ("kind",), known=[("a",)], registry=registry)
    assert 'x_total{kind="a"} 0.0' in exposed(registry)


def test_a_histogram_reads_like_that_of_the_library() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = TallyHistogram("x", "Text.", ("source",), buckets=BOUNDS, registry=ours)
    histogram = Histogram("x", "Text.", ("source",), buckets=BOUNDS, registry=theirs)
    for value in VALUES:
        tally.observe(value, ("cache",))
        histogram.labels("cache").observe(value)
    assert exposed(ours) == exposed(theirs)


def test_a_histogram_without_labels_is_there_from_the_start() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    TallyHistogram("x", "Text.", buckets=BOUNDS, registry=ours)
    Histogram("x", "Text.", buckets=BOUNDS, registry=theirs)
    assert exposed(ours) == exposed(theirs)
