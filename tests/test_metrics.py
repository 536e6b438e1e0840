from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics

from rangeserver.metrics import Metrics, OriginMetrics
from tests.exposition import parsed, scrape

NAMES = {
    "rangeserver_responses_total",
    "rangeserver_response_bytes_total",
    "rangeserver_time_to_first_byte_seconds",
    "rangeserver_response_duration_seconds",
    "rangeserver_active_streams",
    "rangeserver_origin_requests_total",
    "rangeserver_origin_bytes_total",
    "rangeserver_origin_time_to_first_byte_seconds",
    "rangeserver_origin_resumes_total",
    "rangeserver_origin_connections",
    "rangeserver_credentials_refreshes_total",
    "rangeserver_event_loop_lag_seconds",
    "rangeserver_log_lines_dropped_total",
}


def finish(
    metrics: Metrics, method: str = "GET", status: int = 206, outcome: str = "complete"
) -> None:
    metrics.responses.finished(
        method, status, outcome, "origin", sent=10, first_byte=0.002, duration=0.2
    )


def used() -> Metrics:
    """Metrics with something in each of them."""
    metrics = Metrics()
    finish(metrics)
    metrics.origin.answered("ok", 0.01)
    metrics.origin.unanswered("timeout")
    metrics.origin.received(10)
    metrics.origin.resumed()
    metrics.origin.credentials_refreshed(ok=True)
    metrics.loop_lagged(0.003)
    return metrics


def test_all_that_is_promised_is_there_before_anything_happened() -> None:
    text = Metrics().exposition()[0].decode()
    described = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert described >= NAMES
    assert "process_cpu_seconds_total" in described


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


def test_the_text_says_what_the_series_are() -> None:
    metrics = used()
    own, said = (
        {series: value for series, value in seen.values.items() if "rangeserver" in series[0]}
        for seen in (scrape(metrics), parsed(metrics.exposition()[0].decode()))
    )
    assert own == said


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


def test_dropped_log_lines_are_read_when_asked_for() -> None:
    metrics = Metrics()
    metrics.dropped_lines = lambda: 5
    assert scrape(metrics)("rangeserver_log_lines_dropped_total") == 5


def test_each_set_of_metrics_is_its_own() -> None:
    finish(Metrics())
    assert not scrape(Metrics()).named("rangeserver_responses_total")
    OriginMetrics()  # a second one in no registry disturbs nobody
    OriginMetrics(CollectorRegistry())


def test_open_metrics_for_those_who_ask() -> None:
    body, media_type = used().exposition("application/openmetrics-text;version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    parse: Any = openmetrics.text_string_to_metric_families
    families = {family.name for family in parse(body.decode())}
    assert "rangeserver_responses" in families


def test_no_series_of_creation_times() -> None:
    assert b"_created" not in used().exposition()[0]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)
def test_promtool_finds_nothing_to_complain_of() -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=used().exposition()[0],
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
