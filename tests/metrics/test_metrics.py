"""All metrics together, as text."""

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


def used() -> Metrics:
    """Metrics with something in each of them."""
    metrics = Metrics()
    metrics.responses.finished(
        "GET", 206, "complete", "origin", sent=10, first_byte=0.002, duration=0.2
    )
    metrics.origin.answered("ok", 0.01)
    metrics.origin.unanswered("timeout")
    metrics.origin.received(10)
    metrics.origin.resumed()
    metrics.origin.credentials_refreshed(ok=True)
    metrics.loop_lagged(0.003)
    return metrics


def test_every_metric_is_described_before_anything_happened() -> None:
    text = Metrics().exposition()[0].decode()
    described = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert described >= NAMES
    assert "process_cpu_seconds_total" in described


def test_the_text_has_all_series() -> None:
    metrics = used()
    own, said = (
        {series: value for series, value in seen.values.items() if "rangeserver" in series[0]}
        for seen in (scrape(metrics), parsed(metrics.exposition()[0].decode()))
    )
    assert own == said


def test_dropped_log_lines_are_read_at_a_scrape() -> None:
    metrics = Metrics()
    metrics.dropped_lines = lambda: 5
    assert scrape(metrics)("rangeserver_log_lines_dropped_total") == 5


def test_each_set_of_metrics_has_a_registry_of_its_own() -> None:
    used()
    assert not scrape(Metrics()).named("rangeserver_responses_total")
    OriginMetrics()  # without a registry
    OriginMetrics(CollectorRegistry())


def test_open_metrics_on_request() -> None:
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
def test_promtool_accepts_the_text() -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=used().exposition()[0],
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
