"""What the readers of one process share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from rangeserver.protocol.ranges import ByteSpan
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import setting
from tests.support import eventually

DATA = random.Random(3).randbytes(300_000)


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return dict.fromkeys("abc", DATA)


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


async def test_a_purge_is_noticed_by_all_processes(tmp_path: Path, inner: MemoryOrigin) -> None:
    async with (
        setting(tmp_path / "cache", inner) as one,
        setting(tmp_path / "cache", inner) as other,
    ):
        before = other.cache.last_purge()
        assert before == one.cache.last_purge()
        one.cache.directory.note_purge()
        await eventually(lambda: other.cache.last_purge() != before)
        assert other.cache.last_purge() == one.cache.directory.last_purge()
