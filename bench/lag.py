"""How late the server's event loop was, as its metrics tell: a histogram, and what can be read off
it. A percentile is known to lie between two bounds; the upper one is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_BUCKET = re.compile(
    r'^rangeserver_event_loop_lag_seconds_bucket\{le="([0-9.e+-]+|\+Inf)"\} ([0-9.e+]+)$',
    re.MULTILINE,
)

Histogram = Mapping[float, float]
"""How many measurements there were up to each bound, in seconds."""


def lag_histogram(exposition: str) -> Histogram:
    """The histogram in what ``/metrics`` answers."""
    return {float(bound): float(count) for bound, count in _BUCKET.findall(exposition)}


def since(before: Histogram, now: Histogram) -> Histogram:
    """What was measured between two readings."""
    return {bound: count - before.get(bound, 0.0) for bound, count in now.items()}


def measurements(histogram: Histogram) -> int:
    """How many there were."""
    return int(max(histogram.values(), default=0))


def at_most(histogram: Histogram, percent: float) -> float:
    """The bound that ``percent`` of the measurements did not exceed; NaN if there were none."""
    total = measurements(histogram)
    if not total:
        return math.nan
    wanted = math.ceil(total * percent / 100)
    return min(bound for bound, count in histogram.items() if count >= wanted)
