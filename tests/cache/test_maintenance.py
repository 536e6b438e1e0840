"""Keeping a cache's directory in order: there, writable, within its limits."""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rangeserver.cache import maintenance as module
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting
from tests.support import eventually

DATA = random.Random(3).randbytes(300_000)


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return dict.fromkeys("abcde", DATA)


@pytest.fixture
async def one(tmp_path: Path, inner: MemoryOrigin) -> AsyncIterator[Setting]:
    async with setting(tmp_path / "cache", inner) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.02)


@asynccontextmanager
async def kept_in_order(one: Setting) -> AsyncIterator[None]:
    task = asyncio.create_task(one.cache.run_maintenance())
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
    for found in one.cache.directory.files():
        assert one.cache.directory.remove(found)
    assert len(one.cache.entries) == 2
    async with kept_in_order(one):
        await eventually(lambda: not one.cache.entries)


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
        one.cache.write_failed(OSError(errno.ENOENT, "it is gone"))
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


async def test_a_full_disk_has_files_evicted(one: Setting) -> None:
    await fetched(one, "a")
    async with kept_in_order(one):
        await eventually(lambda: one.counted("bytes") > 0)
        one.cache.write_failed(OSError(errno.ENOSPC, "full"))
        await eventually(lambda: one.counted("evictions_total") == 1)
        await eventually(lambda: one.counted("bytes") == 0)


async def test_a_disk_that_tells_nothing_is_told_of_once(
    one: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = 0

    def fails(*_: object) -> int:
        nonlocal looks
        looks += 1
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(one.cache.directory, "free_bytes", fails)
    async with kept_in_order(one):
        await eventually(lambda: looks > 5)
        assert len([line for line in caplog.messages if "cannot look" in line]) == 1
        monkeypatch.undo()
        await eventually(lambda: one.cache.maintenance.space.taken is not None)
    assert await one.read((await one.open("a")).facts) == DATA


async def test_a_write_waits_for_room(tmp_path: Path, inner: MemoryOrigin) -> None:
    async with setting(tmp_path / "cache", inner, max_bytes=1 << 20) as one, kept_in_order(one):
        for key in "abcdeab":
            await fetched(one, key)
            assert one.counted("bytes") <= 1 << 20
        assert one.counted("evictions_total") > 0
        assert one.counted("errors_total", kind="write") == 0


async def test_a_write_that_gets_no_room_is_given_up(
    tmp_path: Path, inner: MemoryOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROOM_SECONDS", 0.1)
    async with setting(tmp_path / "cache", inner, min_free_bytes=1 << 60) as one:
        await fetched(one, "a")  # past it
        assert list(one.cache.directory.files()) == []
        assert not one.cache.may_write()
