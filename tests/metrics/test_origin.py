"""Metrics of requests to origins."""

from __future__ import annotations

from rangeserver.metrics import Metrics
from tests.exposition import scrape


def test_requests_are_counted_by_outcome_and_answers_timed() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.origin.answered("ok", 0.01)
    metrics.origin.unanswered("timeout")
    seen = scrape(metrics)
    assert seen("rangeserver_origin_requests_total", outcome="ok") == 2
    assert seen("rangeserver_origin_requests_total", outcome="timeout") == 1
    assert seen("rangeserver_origin_time_to_first_byte_seconds_count") == 2


def test_connections_are_read_at_a_scrape() -> None:
    metrics = Metrics()
    metrics.origin.in_use, metrics.origin.waiting = 3, 2
    seen = scrape(metrics)
    assert seen("rangeserver_origin_connections", state="in_use") == 3
    assert seen("rangeserver_origin_connections", state="waiting") == 2


def test_open_circuits_are_counted_over_all_origins() -> None:
    metrics = Metrics()
    for is_open in (True, False, True):
        metrics.origin.watch_circuit(lambda is_open=is_open: is_open)  # type: ignore[misc]
    assert scrape(metrics)("rangeserver_origin_circuit_open") == 2


def test_retries_and_hedges_are_counted_by_kind() -> None:
    metrics = Metrics()
    metrics.origin.retried("throttled")
    metrics.origin.hedged("won")
    metrics.origin.hedged("suppressed")
    metrics.origin.credentials_refreshed(ok=False)
    seen = scrape(metrics)
    assert seen("rangeserver_origin_retries_total", reason="throttled") == 1
    assert seen("rangeserver_origin_hedges_total", result="won") == 1
    assert seen("rangeserver_origin_hedges_total", result="suppressed") == 1
    assert seen("rangeserver_credentials_refreshes_total", outcome="failed") == 1
