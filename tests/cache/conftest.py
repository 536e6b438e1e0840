"""What the tests of the cache share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from rangeserver.process.loop import new_event_loop
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """The loop of production; what is sent is the same on a loop without sendfile."""
    loops: dict[str, LoopFactory] = {"uvloop": new_event_loop}
    if item.path.name == "test_serving.py":
        loops["asyncio"] = asyncio.new_event_loop
    return loops


@pytest.fixture
def inner(stored: Mapping[str, bytes]) -> MemoryOrigin:
    origin = MemoryOrigin()
    for key, body in stored.items():
        origin.put(key, body)
    return origin


@pytest.fixture
async def one(tmp_path: Path, inner: MemoryOrigin) -> AsyncIterator[Setting]:
    async with setting(tmp_path, inner) as made:
        yield made
