"""The server with its cache, as a client and the origin see it."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import tracemalloc
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.residency import is_resident
from rangeserver.config import Config
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.web.exchange import Exchange
from tests.fakes.s3 import FakeS3
from tests.fakes.vast import vast
from tests.support import RawClient, config_for, eventually, running_app

pytestmark = pytest.mark.loops("uvloop", "asyncio")

MIB = 1 << 20
FILM = random.Random(1).randbytes(5 * MIB + 12_345)
OTHER = random.Random(2).randbytes(5 * MIB)


def cached(fake: FakeS3, directory: Path, **settings: Any) -> Config:
    """A server that keeps what it serves in ``directory``."""
    ttl = settings.pop("ttl_seconds", 60.0)
    origin = settings.pop("origin", None)
    cache = {"enabled": True, "directory": str(directory), "min_free_bytes": 0, **settings}
    return config_for(fake, cache=cache, origin=origin, ttl_seconds=ttl)


async def test_a_second_reader_asks_nothing_of_the_origin(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM)
    finished: list[Exchange] = []
    async with running_app(cached(fake, tmp_path), observers=[finished.append]) as app:
        async with await RawClient.connect(app.port) as client:
            first = await client.get("/film")
            assert (first.status, first.body == FILM, first.complete) == (200, True, True)
        asked = len(fake.requests)
        async with await RawClient.connect(app.port) as client:
            for start, stop in ((0, 1), (1000, 3 * MIB), (5 * MIB, len(FILM)), (77, 5 * MIB + 1)):
                response = await client.get("/film", Range=f"bytes={start}-{stop - 1}")
                assert (response.status, response.complete) == (206, True)
                assert response.body == FILM[start:stop]
            several = await client.get("/film", Range="bytes=0-99,3000000-3000099")
            assert FILM[:100] in several.body
            assert FILM[3_000_000:3_000_100] in several.body
        assert len(fake.requests) == asked
        await eventually(lambda: len(finished) == 6)
    assert finished[0].source == "origin"
    assert {exchange.source for exchange in finished[1:]} == {"cache"}


async def test_a_restart_finds_what_was_kept(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM)
    for time in range(2):
        async with (
            running_app(cached(fake, tmp_path)) as app,
            await RawClient.connect(app.port) as client,
        ):
            asked = len(fake.requests)
            assert (await client.get("/film")).body == FILM
            assert (len(fake.requests) > asked) == (time == 0)


async def test_the_line_tells_what_was_there(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM)
    finished: list[Exchange] = []
    for _ in range(2):  # the second server has to look into the file
        config = cached(fake, tmp_path)
        async with (
            running_app(config, observers=[finished.append]) as app,
            await RawClient.connect(app.port) as client,
        ):
            await client.get("/film", Range="bytes=0-199999")
            cache = app.cache
            assert cache is not None
            await eventually(lambda cache=cache: not cache.tasks)  # type: ignore[misc]
            await client.get("/film", Range=f"bytes=0-{3 * MIB - 1}")
    await eventually(lambda: len(finished) == 4)
    assert [exchange.source for exchange in finished] == ["origin", "mixed", "cache", "cache"]


def dropped_from_memory(directory: Path) -> bool:
    """Make the page cache forget the one file of a cache; whether it could."""
    (path,) = directory.glob("objects/*/*")
    with path.open("rb") as file:
        os.fsync(file.fileno())  # what is not written yet is not dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return not is_resident(file.fileno(), 0, path.stat().st_size)


async def test_the_loop_sends_nothing_that_the_disk_still_has(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cold page cache: threads read first, and what is sent is in memory by then."""
    fake.put("film", FILM)
    async with running_app(cached(fake, tmp_path)) as app:
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/film")).body == FILM
        if not dropped_from_memory(tmp_path):
            pytest.skip("this directory is in memory")
        sent: list[bool] = []
        read: list[ByteSpan] = []
        sendfile, warm = os.sendfile, CacheFile.warm

        def watched_sendfile(target: int, source: int, offset: int, count: int) -> int:
            sent.append(is_resident(source, offset, count))
            return sendfile(target, source, offset, count)

        def watched_warm(file: CacheFile, span: ByteSpan) -> None:
            assert threading.current_thread() is not threading.main_thread()
            read.append(span)
            warm(file, span)

        monkeypatch.setattr(os, "sendfile", watched_sendfile)
        monkeypatch.setattr(CacheFile, "warm", watched_warm)
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/film")).body == FILM
        assert read
        assert sent
        assert all(sent)


async def test_a_herd_costs_one_read(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM)

    async def viewer(port: int) -> bool:
        async with await RawClient.connect(port) as client:
            return (await client.get("/film")).body == FILM

    async with running_app(cached(fake, tmp_path)) as app:
        assert all(await asyncio.gather(*(viewer(app.port) for _ in range(30))))
    assert all(request.method == "GET" for request in fake.requests)
    ranges = [request.headers["range"] for request in fake.requests]
    assert len(ranges) == len(set(ranges))
    spans = [tuple(map(int, each.removeprefix("bytes=").split("-"))) for each in ranges]
    assert sum(min(stop + 1, len(FILM)) - start for start, stop in spans) == len(FILM)


async def test_a_new_version_is_noticed(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM)
    async with (
        running_app(cached(fake, tmp_path, ttl_seconds=0)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/film")).body == FILM
        fake.put("film", OTHER)
        assert (await client.get("/film")).body == OTHER
        assert (await client.get("/film", Range="bytes=5-9")).body == OTHER[5:10]


async def test_memory_does_not_grow_with_the_size_of_objects(fake: FakeS3, tmp_path: Path) -> None:
    """Eight readers of a film as large as S3 takes it, which has 21 million blocks."""
    size = 5 << 40
    film = vast(size)
    fake.put("film", film, etag='"vast"')

    async with running_app(cached(fake, tmp_path)) as app, AsyncExitStack() as stack:
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        clients = [
            await stack.enter_async_context(await RawClient.connect(app.port, receive_buffer=65536))
            for _ in range(8)
        ]
        for number, client in enumerate(clients):
            start = number << 39
            await client.ask("/film", Range=f"bytes={start}-")
            status, headers = await client.head()
            assert (status, headers["content-length"]) == (206, str(size - start))
            body = await client.receive()
            assert body == film[start : start + len(body)] != b""
        _, most = tracemalloc.get_traced_memory()
        assert most - before < size >> 18  # less than a byte for each block, all of them together
