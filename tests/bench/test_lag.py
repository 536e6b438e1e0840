"""The histogram of the loop's lag as the server exposes it, and what is read off two of them."""

from __future__ import annotations

import math

from bench.lag import at_most, lag_histogram, measurements, since
from rangeserver.metrics import Metrics


def exposed(*lags: float) -> str:
    metrics = Metrics()
    for lag in lags:
        metrics.loop_lagged(lag)
    return metrics.exposition()[0].decode()


def test_a_percentile_is_the_bound_it_lies_below() -> None:
    histogram = lag_histogram(exposed(*[0.0005] * 98, 0.015, 0.3))
    assert measurements(histogram) == 100
    assert [at_most(histogram, percent) for percent in (50, 98, 99, 100)] == [
        *(0.001, 0.001, 0.02, 0.5)
    ]


def test_only_what_came_between_two_readings_counts() -> None:
    before = lag_histogram(exposed(3.0))
    now = lag_histogram(exposed(3.0, 0.002))
    assert measurements(since(before, now)) == 1
    assert at_most(since(before, now), 100) == 0.0025


def test_nothing_measured_is_no_lag_known() -> None:
    assert measurements({}) == 0
    assert math.isnan(at_most({}, 99))
    assert math.isnan(at_most(lag_histogram(exposed()), 99))


def test_more_than_the_last_bound_is_infinite() -> None:
    assert at_most(lag_histogram(exposed(100.0)), 50) == math.inf
