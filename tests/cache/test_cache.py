"""What the readers of one process share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from rangeserver.protocol.ranges import ByteSpan
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting

DATA = random.Random(3).randbytes(300_000)


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return dict.fromkeys("abc", DATA)


@pytest.fixture
async def one(tmp_path: Path, inner: MemoryOrigin) -> AsyncIterator[Setting]:
    async with setting(tmp_path / "cache", inner) as made:
        yield made


async def fetched(one: Setting, key: str) -> None:
    assert await one.read((await one.open(key)).facts) == DATA


async def test_files_kept_open_are_bounded(one: Setting) -> None:
    one.cache.max_open = 2
    for key in "abcab":
        await fetched(one, key)
        assert len(one.cache._entries) <= 2


async def test_one_asks_first(tmp_path: Path, one: Setting, inner: MemoryOrigin) -> None:
    order: list[str] = []

    async def ask(process: Setting, name: str) -> None:
        async with process.cache.fetch_lock("a"):
            order.append(name)
            await asyncio.sleep(0.03)
            order.append(name)

    async with setting(tmp_path / "cache", inner) as other:
        await asyncio.gather(ask(one, "one"), ask(other, "other"))
    assert order in (["one", "one", "other", "other"], ["other", "other", "one", "one"])


async def test_one_who_waits_to_ask_may_leave(
    tmp_path: Path, one: Setting, inner: MemoryOrigin
) -> None:
    async with setting(tmp_path / "cache", inner) as other:

        async def ask() -> None:
            async with other.cache.fetch_lock("a"):
                pass

        async with one.cache.fetch_lock("a"):
            task = asyncio.create_task(ask())
            await asyncio.sleep(0.02)
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(ask(), 5)


async def test_closing_ends_fills_that_have_not_begun(tmp_path: Path, inner: MemoryOrigin) -> None:
    async with setting(tmp_path / "cache", inner) as one:
        inner.hold()
        facts = inner.current["a"]
        async with one.origin.read(facts, ByteSpan(0, len(DATA))) as parts:
            step = asyncio.ensure_future(anext(parts))
            while not one.cache.tasks:  # noqa: ASYNC110 (in the very turn in which it is made)
                await asyncio.sleep(0)
            await one.cache.close()
            await asyncio.gather(step, return_exceptions=True)
        assert one.cache.budget.taken == 0
