"""The disk under the cache is small, shared or full of small files, and its limits hold."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rangeserver.cache.directory import Directory
from rangeserver.cache.listing import FileInfo
from rangeserver.config import Config
from tests.fakes.s3 import FakeS3
from tests.faults.forked import Forked, forked
from tests.faults.test_cache_disk import mounted
from tests.faults.test_cache_viewers import disk_usage
from tests.faults.tools import needs
from tests.support import DEADLINE_SECONDS, RawClient, config_for, running_app

MIB = 1 << 20
BYTES = random.Random(1).randbytes(24 * MIB)
A_WRITE = 256 * 1024
"""More than is written at a time."""

BYTES_TAKEN = "rangeserver_cache_bytes"


def settings(fake: FakeS3, directory: Path, **cache: Any) -> Config:
    # Patient: the origin is in this process, which has much to do.
    origin = {"hedge_percent": 0.0, "max_attempts": 3, "max_resumes": 3, "idle_seconds": 20.0}
    kept = {"enabled": True, "directory": str(directory), "min_free_bytes": 0, **cache}
    return config_for(fake, cache=kept, origin=origin, ttl_seconds=60)


@asynccontextmanager
async def processes(count: int, config: Config, logs: Path) -> AsyncIterator[list[Forked]]:
    """So many servers on one cache."""
    async with AsyncExitStack() as stack:
        servers = (forked(config, logs / f"log{number}") for number in range(count))
        yield [await stack.enter_async_context(server) for server in servers]


def free_bytes(disk: Path) -> int:
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize


def used_bytes(disk: Path) -> int:
    stat = os.statvfs(disk)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize


@contextmanager
def least_free(disk: Path) -> Iterator[list[int]]:
    """The least that was free of a disk, as its only element."""
    least = [free_bytes(disk)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.0005):
            least[0] = min(least[0], free_bytes(disk))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield least
    finally:
        over.set()
        thread.join()


@needs("mount", root=True)
@pytest.mark.parametrize("max_bytes", [40 * MIB, 20 << 30])
@pytest.mark.parametrize("count", [1, 2])
async def test_what_is_to_stay_free_does(
    fake: FakeS3, tmp_path: Path, count: int, max_bytes: int
) -> None:
    """Eight clients read three times as much as there is room for."""
    disk, reserve = tmp_path / "disk", 16 * MIB
    films = {f"film{number}": BYTES[number : number + MIB] for number in range(120)}
    for key, film in films.items():
        fake.put(key, film)
    with mounted(disk, "-t", "tmpfs", "-o", "size=56m", "tmpfs"):
        config = settings(fake, disk / "cache", max_bytes=max_bytes, min_free_bytes=reserve)
        async with processes(count, config, tmp_path) as servers:
            keys = iter(films)

            async def client(port: int) -> None:
                async with await RawClient.connect(port) as client:
                    for key in keys:
                        response = await client.get(f"/{key}")
                        assert (response.status, response.body) == (200, films[key])

            with least_free(disk) as least:
                await asyncio.gather(*(client(servers[n % count].port) for n in range(8)))
            kept = disk_usage(disk / "cache" / "objects")
        # Of several processes, each may write at once for all of its threads.
        assert least[0] >= reserve - (count - 1) * 8 * A_WRITE
        assert kept > 20 * MIB  # there is room for so much, and it is made use of


@pytest.mark.fault("C14")
@needs("mount", root=True)
@pytest.mark.parametrize("count", [1, 2])
async def test_removed_files_that_stalled_clients_hold_take_no_space(
    fake: FakeS3, tmp_path: Path, count: int
) -> None:
    """Eight clients stall in the midst of what is five times as large as the cache, and go on."""
    disk, limit = tmp_path / "disk", 10 * MIB
    films = {f"film{number}": BYTES[number : number + 6 * MIB] for number in range(8)}
    for key, film in films.items():
        fake.put(key, film)
    with mounted(disk, "-t", "tmpfs", "-o", "size=100m", "tmpfs"):
        config = settings(fake, disk / "cache", max_bytes=limit)
        async with processes(count, config, tmp_path) as servers, AsyncExitStack() as stack:
            stalled = []
            for number, key in enumerate(films):
                port = servers[number % count].port
                async with await RawClient.connect(port) as client:
                    assert (await client.get(f"/{key}")).body == films[key]
                slow = await RawClient.connect(port, receive_buffer=4096)
                stalled.append(await stack.enter_async_context(slow))
                await slow.ask(f"/{key}")
                streams = functools.partial(
                    streams_of, servers[number % count], number // count + 1
                )
                await soon(streams)

            async def is_within() -> bool:
                """The limit holds, and all servers say what is so."""
                taken = [await taken_by(server) for server in servers]
                used = used_bytes(disk)
                return used <= limit and all(abs(each - used) <= MIB // 2 for each in taken)

            await soon(is_within)
            for slow, film in zip(stalled, films.values(), strict=True):
                response = await slow.response()
                assert (response.complete, response.body == film) == (True, True)
            await soon(is_within)


async def test_what_is_taken_is_known_from_the_start(fake: FakeS3, tmp_path: Path) -> None:
    """In a new directory once something is there; in an old one at once."""
    fake.put("film", BYTES[: 3 * MIB])
    directory = tmp_path / "cache"
    config = settings(fake, directory)
    async with processes(1, config, tmp_path) as (server,):
        async with await RawClient.connect(server.port) as client:
            assert (await client.get("/film")).complete

        async def is_known() -> bool:
            return abs(await taken_by(server) - disk_usage(directory / "objects")) <= MIB // 4

        await soon(is_known)
    async with processes(1, config, tmp_path) as (server,):
        assert await is_known()


async def soon(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds that other processes are asked for."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def streams_of(server: Forked, count: int) -> bool:
    return (await server.series())["rangeserver_active_streams"] == count


async def taken_by(server: Forked) -> float:
    return (await server.series()).get(BYTES_TAKEN, 0.0)


async def test_a_large_cache_delays_no_write(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are looked at once at the start, however much is written."""
    directory = tmp_path / "cache"
    fake.put("film", BYTES)
    looks = 0
    files = Directory.files

    def counted(self: Directory) -> Iterator[FileInfo]:
        nonlocal looks
        looks += 1
        return files(self)

    monkeypatch.setattr(Directory, "files", counted)
    async with (
        running_app(settings(fake, directory, max_bytes=32 * MIB)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/film")).body == BYTES
    assert looks <= 1
