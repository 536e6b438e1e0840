"""What the cache counts."""

from __future__ import annotations

from rangeserver.cache.metrics import CacheMetrics
from rangeserver.metrics import Metrics
from tests.exposition import scrape


def test_each_is_told() -> None:
    metrics = Metrics()
    cache = CacheMetrics(metrics.registry)
    cache.hit()
    cache.missed()
    cache.bypassed()
    cache.served_stale()
    cache.evicted(3)
    cache.failed("damaged", 2)
    now = scrape(metrics)
    assert not now.named("rangeserver_cache_bytes")  # they are not known yet
    cache.disk_bytes, cache.in_flight, cache.usable = lambda: 7, lambda: 5, lambda: True
    now = scrape(metrics)
    names = ("hits", "misses", "bypassed", "stale_answers", "evictions")
    assert [now(f"rangeserver_cache_{name}_total") for name in names] == [1, 1, 1, 1, 3]
    assert now("rangeserver_cache_errors_total", kind="damaged") == 2
    assert now("rangeserver_cache_errors_total", kind="read") == 0
    assert now("rangeserver_cache_bytes") == 7
    assert now("rangeserver_buffered_bytes") == 5
    assert now("rangeserver_cache_usable") == 1


def test_nobody_has_to_read_them() -> None:
    CacheMetrics().hit()
