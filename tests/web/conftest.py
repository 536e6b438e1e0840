"""What the tests of the HTTP face share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rangeserver.process.loop import new_event_loop
from rangeserver.web.exchange import Exchange
from tests.web.stepped_loop import SteppedLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """The loop of production; clients may leave on either, and slow ones are watched by a clock
    that tests have in hand.
    """
    if item.path.name == "test_client_progress.py":
        return {"stepped": SteppedLoop}
    loops: dict[str, LoopFactory] = {"uvloop": new_event_loop}
    if item.path.name in {"test_leaving.py", "test_sendfile.py"}:
        loops["asyncio"] = asyncio.new_event_loop
    return loops


@pytest.fixture
def finished() -> list[Exchange]:
    """What an observer that appends here has seen, in order."""
    return []
