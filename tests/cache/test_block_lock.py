"""Blocks that one process fetches and others wait for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from rangeserver.cache import block_lock
from rangeserver.cache.block_lock import BlockLock
from rangeserver.cache.entry import Entry
from tests.cache.files import BLOCK
from tests.cache.setting import Setting, setting

DATA = random.Random(3).randbytes(4 * BLOCK)


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"a": DATA}


async def entry_of(one: Setting) -> Entry:
    entry = await one.cache.create("aws films a", one.inner.current["a"], "me")
    assert entry is not None
    return entry


async def test_what_is_missing_is_locked_and_what_is_here_is_not(one: Setting) -> None:
    entry = await entry_of(one)
    lock = BlockLock(one.cache, entry)
    assert await lock.take(0, 4) == (0, 4)
    lock.release()
    facts = one.inner.current["a"]
    assert await one.read(facts) == DATA
    entry = await entry_of(one)
    assert await BlockLock(one.cache, entry).take(0, 4) is None


async def test_another_process_is_waited_for(tmp_path: Path, one: Setting) -> None:
    lock = BlockLock(one.cache, await entry_of(one))
    assert await lock.take(0, 4) == (0, 4)
    async with setting(tmp_path, one.inner) as other:
        theirs = BlockLock(other.cache, await entry_of(other))
        assert await theirs.try_take(0, 4) is None
        waiting = asyncio.create_task(theirs.take(0, 4))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        lock.truncate(1)
        assert not waiting.done()
        lock.release()
        assert await waiting == (0, 4)
        theirs.release()


async def test_what_is_left_is_free_for_others(tmp_path: Path, one: Setting) -> None:
    lock = BlockLock(one.cache, await entry_of(one))
    await lock.take(0, 4)
    lock.truncate(2)
    async with setting(tmp_path, one.inner) as other:
        theirs = BlockLock(other.cache, await entry_of(other))
        assert await theirs.try_take(2, 4) == (2, 4)
        theirs.release()
    lock.release()


async def test_who_takes_too_long_is_not_waited_for(
    tmp_path: Path, one: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is fetched by both, and the lock stays with the one who had it."""
    monkeypatch.setattr(block_lock, "_OTHERS_SECONDS", 0.05)
    entry = await entry_of(one)
    lock = BlockLock(one.cache, entry)
    await lock.take(0, 4)
    entry.file.record(2, 0)
    async with setting(tmp_path, one.inner) as other:
        theirs = BlockLock(other.cache, await entry_of(other))
        assert await theirs.take(0, 4) == (0, 2)
        theirs.release()
        assert await theirs.try_take(0, 4) is None
    lock.release()
