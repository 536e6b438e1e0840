"""What the readers of one process share."""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rangeserver.cache import cache as module
from rangeserver.cache.eviction import Limits, sweep
from rangeserver.protocol.ranges import ByteSpan
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting
from tests.support import eventually

DATA = random.Random(3).randbytes(300_000)


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return dict.fromkeys("abc", DATA)


@pytest.fixture
async def one(tmp_path: Path, inner: MemoryOrigin) -> AsyncIterator[Setting]:
    async with setting(tmp_path / "cache", inner) as made:
        yield made


@asynccontextmanager
async def kept_in_order(one: Setting) -> AsyncIterator[None]:
    task = asyncio.create_task(one.cache.keep_in_order())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def fetched(one: Setting, key: str) -> None:
    assert await one.read((await one.open(key)).facts) == DATA


async def test_files_that_were_removed_are_closed(one: Setting) -> None:
    """Only then is their space free."""
    await fetched(one, "a")
    await fetched(one, "b")
    sweep(one.cache.directory, Limits(0, 0))
    assert len(one.cache._entries) == 2
    async with kept_in_order(one):
        await eventually(lambda: not one.cache._entries)


async def test_files_kept_open_are_bounded(one: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 2)
    for key in "abcab":
        await fetched(one, key)
        assert len(one.cache._entries) <= 2


async def test_a_directory_that_was_removed_is_made_anew(
    one: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.1)
    async with kept_in_order(one):
        await fetched(one, "a")
        shutil.rmtree(one.cache.directory.path)
        await fetched(one, "b")  # past it
        await eventually(one.cache.may_write)
        await eventually((one.cache.directory.path / "objects").exists)
        await fetched(one, "c")
        assert one.cache.directory.find("aws films c") is not None


async def test_a_directory_that_cannot_be_used_is_tried_again(
    tmp_path: Path, inner: MemoryOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    async with setting(tmp_path / "cache", inner) as one:
        one.cache._opened = False
        shutil.rmtree(one.cache.directory.path)
        one.cache.directory.path.write_text("in the way")
        async with kept_in_order(one):
            await fetched(one, "a")
            await eventually(lambda: one.counted("errors_total", kind="write") > 1)
            one.cache.directory.path.unlink()
            await eventually(one.cache.may_write)


async def test_nothing_is_written_while_others_need_the_space(
    tmp_path: Path, inner: MemoryOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look comes before writing is tried again."""
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.2)
    async with (
        setting(tmp_path / "cache", inner, min_free_bytes=1 << 60) as one,
        kept_in_order(one),
    ):
        await eventually(lambda: not one.cache.may_write())
        until = asyncio.get_running_loop().time() + 0.8
        while asyncio.get_running_loop().time() < until:
            assert not one.cache.may_write()
            await asyncio.sleep(0.005)


async def test_a_full_disk_brings_a_sweep(one: Setting) -> None:
    await fetched(one, "a")
    async with kept_in_order(one):
        await eventually(lambda: one.counted("bytes") > 0)
        one.cache.write_failed(OSError(errno.ENOSPC, "full"))
        await eventually(lambda: one.counted("evictions_total") == 1)
        assert one.counted("bytes") == 0


async def test_one_asks_first(tmp_path: Path, one: Setting, inner: MemoryOrigin) -> None:
    order: list[str] = []

    async def ask(process: Setting, name: str) -> None:
        async with process.cache.asking_first("a"):
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
            async with other.cache.asking_first("a"):
                pass

        async with one.cache.asking_first("a"):
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
