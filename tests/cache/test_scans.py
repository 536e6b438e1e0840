"""Whoever reads everything once, or a little of everything, and what others watch meanwhile."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rangeserver.cache import entry
from rangeserver.config import Config
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app

MIB = 1 << 20
FILM = random.Random(1).randbytes(2 * MIB)
WATCHED = [f"watched{number}" for number in range(4)]
OTHERS = [f"other{number}" for number in range(24)]
LIMIT = 16 * MIB

Scan = Callable[[RunningApp, str], Awaitable[None]]


async def whole(app: RunningApp, key: str) -> None:
    """All of it."""
    async with await RawClient.connect(app.port) as client:
        response = await client.get(f"/{key}")
        assert (response.status, response.body == FILM) == (200, True)


async def begun(app: RunningApp, key: str) -> None:
    """Ask for all, and leave once it begins to come."""
    async with await RawClient.connect(app.port, receive_buffer=4096) as client:
        await client.ask(f"/{key}")
        assert (await client.head())[0] == 200
        client.reset()


async def byte_by_byte(app: RunningApp, key: str) -> None:
    """A byte of each block, as often as it takes to have it kept."""
    async with await RawClient.connect(app.port) as client:
        for _ in range(3):
            for start in range(0, len(FILM), 256 * 1024):
                response = await client.get(f"/{key}", Range=f"bytes={start}-{start}")
                assert response.body == FILM[start : start + 1]


@pytest.fixture
def config(fake: FakeS3, tmp_path: Path) -> Config:
    for key in (*WATCHED, *OTHERS):
        fake.put(key, FILM)
    cache: dict[str, Any] = {"enabled": True, "directory": str(tmp_path), "max_bytes": LIMIT}
    return config_for(fake, cache={**cache, "min_free_bytes": 0}, ttl_seconds=600)


async def evicted(app: RunningApp, count: int) -> None:
    """Wait until so many objects were removed in all."""
    assert app.cache is not None
    counter = app.cache.metrics._evictions
    await eventually(lambda: counter._value.get() >= count)


@pytest.mark.parametrize("scan", [whole, begun, byte_by_byte])
async def test_what_is_watched_outlasts_what_is_read_once(
    fake: FakeS3, config: Config, monkeypatch: pytest.MonkeyPatch, scan: Scan
) -> None:
    """Half of the cache is watched; three times the cache is read once."""
    monkeypatch.setattr(entry, "_YOUNG_SECONDS", 0.0)
    async with running_app(config) as app:
        for _ in range(2):
            for key in WATCHED:
                await whole(app, key)
        for key in OTHERS:
            await scan(app, key)
        await evicted(app, 8 if scan is whole else 0)
        fake.sent.clear()
        for key in WATCHED:
            await whole(app, key)
        assert {key: fake.sent[key] for key in WATCHED} == dict.fromkeys(WATCHED, 0)


async def test_what_was_read_once_goes_when_there_is_nothing_else(
    fake: FakeS3, config: Config
) -> None:
    async with running_app(config) as app:
        for key in OTHERS:
            await whole(app, key)
        await evicted(app, 8)
        fake.sent.clear()
        await whole(app, OTHERS[-1])
        assert fake.sent[OTHERS[-1]] == 0
        await whole(app, OTHERS[0])
        assert fake.sent[OTHERS[0]] == len(FILM)
