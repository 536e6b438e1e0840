"""Metrics of responses."""

from __future__ import annotations

import pytest

from rangeserver.metrics import Metrics
from tests.exposition import scrape


def finish(
    metrics: Metrics, method: str = "GET", status: int = 206, outcome: str = "complete"
) -> None:
    metrics.responses.finished(
        method, status, outcome, "origin", sent=10, first_byte=0.002, duration=0.2
    )


def test_responses_are_counted_by_method_status_and_outcome() -> None:
    metrics = Metrics()
    finish(metrics)
    finish(metrics)
    finish(metrics, outcome="client_gone")
    finish(metrics, "HEAD", 200)
    seen = scrape(metrics)
    name = "rangeserver_responses_total"
    assert seen(name, method="GET", status="206", outcome="complete") == 2
    assert seen(name, method="GET", status="206", outcome="client_gone") == 1
    assert seen(name, method="HEAD", status="200", outcome="complete") == 1
    assert seen("rangeserver_response_duration_seconds_count") == 4
    assert seen("rangeserver_response_duration_seconds_sum") == pytest.approx(0.8)


def test_invented_methods_are_one_series() -> None:
    metrics = Metrics()
    for number in range(100):
        finish(metrics, f"M{number}", 405)
    series = scrape(metrics).named("rangeserver_responses_total")
    assert series == {
        frozenset({("method", "other"), ("status", "405"), ("outcome", "complete")}): 100
    }
    assert len(metrics.responses._responses.counts) == 1


def test_a_response_without_a_byte_has_no_time_to_it() -> None:
    metrics = Metrics()
    metrics.responses.finished(
        "GET", 0, "client_gone", "none", sent=0, first_byte=None, duration=1.0
    )
    assert not scrape(metrics).named("rangeserver_time_to_first_byte_seconds_count")


def test_bytes_count_while_a_response_runs_and_once() -> None:
    metrics = Metrics()
    running = [("origin", 7)]
    metrics.responses.running = lambda: running
    assert scrape(metrics)("rangeserver_response_bytes_total", source="origin") == 7
    assert scrape(metrics)("rangeserver_active_streams") == 1
    running.clear()
    finish(metrics)
    assert scrape(metrics)("rangeserver_response_bytes_total", source="origin") == 10
    assert scrape(metrics)("rangeserver_active_streams") == 0
