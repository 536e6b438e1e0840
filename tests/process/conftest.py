"""What the tests of listening and serving share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rangeserver.process.loop import new_event_loop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """TLS has to be right on either loop; for the rest there is that of production."""
    loops: dict[str, LoopFactory] = {"uvloop": new_event_loop}
    if item.path.name == "test_tls.py":
        loops["asyncio"] = asyncio.new_event_loop
    return loops
