"""Small reads with the cache on, as a client and the origin see them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from rangeserver.config import Config
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, config_for, eventually, running_app

MIB = 1 << 20
BLOCK = 256 * 1024
FILM = random.Random(1).randbytes(8 * MIB + 12_345)


@pytest.fixture
def config(fake: FakeS3, tmp_path: Path) -> Config:
    fake.put("film", FILM)
    cache: dict[str, Any] = {"enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
    return config_for(fake, cache=cache, ttl_seconds=60)


async def get(client: RawClient, start: int, stop: int, key: str = "film") -> None:
    """Ask for a range, and check what comes."""
    response = await client.get(f"/{key}", Range=f"bytes={start}-{stop - 1}")
    assert (response.status, response.body == FILM[start:stop]) == (206, True)


def ranges_asked(fake: FakeS3) -> list[str]:
    """What the origin was asked for since the last time."""
    asked = [request.headers.get("range", "all") for request in fake.seen("GET")]
    fake.requests.clear()
    return asked


def kept(directory: Path) -> int:
    """Bytes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.glob("objects/*/*"))


async def test_many_small_ranges_cost_their_bytes(
    fake: FakeS3, config: Config, tmp_path: Path
) -> None:
    """16 ranges of one byte each, in 16 blocks: of an object that is not known, then of others."""
    starts = [number * 2 * BLOCK + 7 for number in range(16)]
    several = "bytes=" + ",".join(f"{start}-{start}" for start in starts)
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        for number in range(3):
            fake.put(f"film{number}", FILM)
            response = await client.get(f"/film{number}", Range=several)
            assert (response.status, response.complete) == (206, True)
            for start in starts:
                assert b"\r\n\r\n" + FILM[start : start + 1] + b"\r\n--" in response.body
            assert fake.sent[f"film{number}"] == 16
            assert ranges_asked(fake) == [f"bytes={start}-{start}" for start in starts]
    assert kept(tmp_path) == 0


async def test_the_second_read_of_a_block_keeps_it(
    fake: FakeS3, config: Config, tmp_path: Path
) -> None:
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        await get(client, 1000, 1100)
        assert ranges_asked(fake) == ["bytes=1000-1099"]
        assert kept(tmp_path) == 0
        await get(client, 2000, 2100)
        assert ranges_asked(fake) == [f"bytes=0-{BLOCK - 1}"]
        await eventually(lambda: kept(tmp_path) >= BLOCK)
        for start in (0, 1000, BLOCK - 100):
            await get(client, start, start + 100)
        assert ranges_asked(fake) == []


async def test_another_process_finds_what_is_kept(fake: FakeS3, config: Config) -> None:
    async with running_app(config) as one, running_app(config) as other:
        async with await RawClient.connect(one.port) as client:
            await get(client, 0, MIB)
        fake.requests.clear()
        async with await RawClient.connect(other.port) as client:
            await get(client, 5000, 5100)
            assert fake.requests == []
            await get(client, 2 * MIB, 2 * MIB + 100)
            assert ranges_asked(fake) == [f"bytes={2 * MIB}-{2 * MIB + 99}"]


async def test_small_ranges_one_after_another_are_kept_but_for_the_first(
    fake: FakeS3, config: Config
) -> None:
    """Segments of an audio track, which a playlist names as ranges of one file."""
    length = 60_000
    async with running_app(config) as app:
        async with await RawClient.connect(app.port) as client:
            for start in range(3 * BLOCK, 6 * BLOCK, length):
                await get(client, start, start + length)
        first = f"bytes={3 * BLOCK}-{3 * BLOCK + length - 1}"
        blocks = [f"bytes={each * BLOCK}-{(each + 1) * BLOCK - 1}" for each in range(3, 7)]
        assert ranges_asked(fake) == [first, *blocks]
        async with await RawClient.connect(app.port) as client:
            for start in range(3 * BLOCK, 6 * BLOCK, length):
                await get(client, start, start + length)
        assert ranges_asked(fake) == []


async def test_what_players_ask_first_costs_no_more_than_before(
    fake: FakeS3, config: Config
) -> None:
    """Two bytes for a probe, then all; and the end, where the index of many films lies."""
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        await get(client, 0, 2)
        assert ranges_asked(fake) == ["bytes=0-1"]
        assert (await client.get("/film", Range="bytes=0-")).body == FILM
        assert fake.sent["film"] == 2 + len(FILM)
        assert ranges_asked(fake)[0] == f"bytes=0-{MIB - 1}"
        for number, ask in enumerate((f"bytes={len(FILM) - 5000}-", "bytes=-5000")):
            fake.put(f"film{number}", FILM)
            response = await client.get(f"/film{number}", Range=ask)
            assert response.body == FILM[-5000:]
            (asked,) = ranges_asked(fake)
            response = await client.get(f"/film{number}", Range=ask)
            assert response.body == FILM[-5000:]
            assert ranges_asked(fake) == []
            assert fake.sent[f"film{number}"] <= 2 * BLOCK, asked


async def test_a_new_version_is_noticed_by_a_small_read(fake: FakeS3, config: Config) -> None:
    """By its first request, though the old one is believed still, and in the cache in part."""
    old, new = fake.etag("film"), FILM[::-1]
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        await get(client, 0, 2 * MIB)
        fake.put("film", new)
        fake.requests.clear()
        response = await client.get("/film", Range=f"bytes={5 * MIB}-{5 * MIB + 99}")
        assert (response.status, response.body) == (206, new[5 * MIB : 5 * MIB + 100])
        assert [request.headers.get("if-match") for request in fake.requests].count(old) == 1
        response = await client.get("/film", Range=f"bytes=0-{MIB - 1}")
        assert (response.status, response.body == new[:MIB]) == (206, True)


async def test_a_herd_for_a_small_range_costs_a_block(fake: FakeS3, config: Config) -> None:
    async def viewer(port: int) -> None:
        async with await RawClient.connect(port) as client:
            await get(client, 1000, 1100)

    async with running_app(config) as app:
        await asyncio.gather(*(viewer(app.port) for _ in range(30)))
    assert ranges_asked(fake) == ["bytes=1000-1099", f"bytes=0-{BLOCK - 1}"]


async def test_a_small_object_is_kept_at_once(fake: FakeS3, config: Config) -> None:
    fake.put("subtitles", FILM[:5000])
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        for _ in range(2):
            assert (await client.get("/subtitles")).body == FILM[:5000]
        assert len(ranges_asked(fake)) == 1


async def test_bytes_for_nothing_run_out(fake: FakeS3, config: Config) -> None:
    """A byte of each block, twice: each client has so much to spend, and its bytes all the same."""
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        for number in range(4):
            fake.put(f"film{number}", FILM)
            for start in range(0, 8 * MIB, BLOCK):
                for _ in range(2):
                    await get(client, start, start + 1, key=f"film{number}")
        spent = sum(fake.sent[f"film{number}"] for number in range(4))
        assert 16 * MIB <= spent < 24 * MIB  # and for each second that it took, one more
