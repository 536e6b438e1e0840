"""The bound on least-recently-used tables."""

from __future__ import annotations

from collections import OrderedDict

from rangeserver import lru


def test_least_recent_entry_is_evicted_beyond_the_bound() -> None:
    table: OrderedDict[str, int] = OrderedDict()
    for value, key in enumerate("abc"):
        lru.put(table, key, value, max_entries=2)
    assert table == OrderedDict(b=1, c=2)


def test_entry_that_is_put_again_becomes_the_most_recent() -> None:
    table: OrderedDict[str, int] = OrderedDict()
    for value, key in enumerate("abac"):
        lru.put(table, key, value, max_entries=2)
    assert table == OrderedDict(a=2, c=3)
