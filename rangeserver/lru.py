"""The bound on every least-recently-used (LRU) table: an ``OrderedDict``, oldest entry first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def put(table: OrderedDict[K, V], key: K, value: V, *, max_entries: int) -> None:
    """Store ``value`` as the most recent entry; the least recent one goes if there are too many.

    A reader that counts as a use calls ``table.move_to_end(key)``.
    """
    table[key] = value
    table.move_to_end(key)
    if len(table) > max_entries:
        table.popitem(last=False)
