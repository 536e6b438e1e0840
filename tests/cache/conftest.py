"""What the tests of the cache share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rangeserver.process.loop import new_event_loop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """The loop of production; what is sent is the same on a loop without sendfile."""
    loops: dict[str, LoopFactory] = {"uvloop": new_event_loop}
    if item.path.name == "test_serving.py":
        loops["asyncio"] = asyncio.new_event_loop
    return loops
