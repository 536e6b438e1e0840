"""What the tests of the origin share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rangeserver.process.loop import new_event_loop

_ON_BOTH_LOOPS = {"test_hedging.py", "test_slots.py"}
"""Here all depends on the order in which a loop does things."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in _ON_BOTH_LOOPS:
        loops["uvloop"] = new_event_loop
    return loops
