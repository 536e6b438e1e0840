"""One process asks for an object that is not in the cache; the others wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rangeserver.cache.object_lock import object_lock
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting
from tests.support import eventually


@pytest.fixture
async def one(tmp_path: Path, inner: MemoryOrigin) -> AsyncIterator[Setting]:
    async with setting(tmp_path / "cache", inner) as made:
        yield made


async def test_one_process_has_it_at_a_time(
    tmp_path: Path, one: Setting, inner: MemoryOrigin
) -> None:
    order: list[str] = []

    async def ask(process: Setting, name: str) -> None:
        async with object_lock(process.cache, "a"):
            order.append(name)
            await asyncio.sleep(0.03)
            order.append(name)

    async with setting(tmp_path / "cache", inner) as other:
        await asyncio.gather(ask(one, "one"), ask(other, "other"))
    assert order in (["one", "one", "other", "other"], ["other", "other", "one", "one"])


async def test_who_waits_for_it_may_leave(
    tmp_path: Path, one: Setting, inner: MemoryOrigin
) -> None:
    async with setting(tmp_path / "cache", inner) as other:

        async def ask() -> None:
            async with object_lock(other.cache, "a"):
                pass

        async with object_lock(one.cache, "a"):
            task = asyncio.create_task(ask())
            await eventually(lambda: bool(other.cache.poller._waiting))
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(ask(), 5)
