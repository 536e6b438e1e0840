"""Several processes on one directory, and processes that are killed or stopped: C5 and C8."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rangeserver.cache import locks
from rangeserver.cache.directory import Directory
from rangeserver.cache.inspection import summarize
from rangeserver.cache.tree import MARK
from rangeserver.config import Config
from tests.amount import ALL
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.faults.forked import Forked, forked
from tests.support import (
    DEADLINE_SECONDS,
    RawClient,
    RawResponse,
    config_for,
    eventually,
    running_app,
)

MIB = 1 << 20
BLOCK = 64 << 10
FILM = random.Random(1).randbytes(8 * MIB + 777)
OTHER = random.Random(2).randbytes(8 * MIB)


def settings(fake: FakeS3, directory: Path, ttl_seconds: float = 60) -> Config:
    cache = {
        "enabled": True,
        "directory": str(directory),
        "min_free_bytes": 0,
        "block_bytes": BLOCK,
        "ttl_seconds": ttl_seconds,
    }
    # Patient: the origin is in this process, which has much to do.
    deadlines = {"response_seconds": 60.0, "idle_seconds": 60.0}
    origin = {"hedge_percent": 0.0, "max_attempts": 3, "max_resumes": 3, **deadlines}
    return config_for(fake, cache=cache, origin=origin)


@asynccontextmanager
async def processes(
    fake: FakeS3,
    directory: Path,
    count: int,
    *,
    ttl_seconds: float = 60,
    constants: Mapping[str, Any] | None = None,
) -> AsyncIterator[list[Forked]]:
    """So many servers on one directory."""
    async with AsyncExitStack() as stack:
        servers = []
        for number in range(count):
            log = directory.parent / f"log{number}"
            server = forked(settings(fake, directory, ttl_seconds), log, constants)
            servers.append(await stack.enter_async_context(server))
        yield servers


async def get(port: int, target: str = "/film", **headers: str) -> RawResponse:
    async with await RawClient.connect(port) as client:
        return await client.get(target, **headers)


async def is_exact(port: int, film: bytes = FILM) -> bool:
    response = await get(port)
    assert response.status == 200, response.body
    assert response.complete, f"{len(response.body)} bytes"
    return response.body == film


@pytest.mark.parametrize("count", [2, 4])
async def test_a_herd_at_several_processes(fake: FakeS3, tmp_path: Path, count: int) -> None:
    """200 clients on one cold object of an origin that takes 30 ms: it is asked for each byte once.

    A few take the whole object, the others a part.
    """
    film = random.Random(5).randbytes(32 * MIB)
    fake.put("film", film)
    fake.misbehave(faults.late(0.03))
    # A busy machine may take longer over a block than a process waits for another.
    patient = {
        "rangeserver.cache.block_lock._OTHERS_SECONDS": 600.0,
        "rangeserver.cache.object_lock._OTHERS_SECONDS": 600.0,
    }
    async with processes(fake, tmp_path / "cache", count, constants=patient) as servers:

        async def viewer(number: int) -> None:
            port = servers[number % count].port
            if ALL or number % 40 == 0:
                assert await is_exact(port, film)
                return
            start = random.Random(number).randrange(len(film) - MIB)
            response = await get(port, Range=f"bytes={start}-{start + MIB - 1}")
            assert (response.status, response.complete) == (206, True)
            assert response.body == film[start : start + MIB]

        await asyncio.gather(*(viewer(number) for number in range(200)))
        assert len(film) <= fake.sent["film"] <= 1.02 * len(film)


async def test_the_one_that_fetches_is_killed(fake: FakeS3, tmp_path: Path) -> None:
    """Its locks are free at once, and another process fetches what it had not. It dies when it
    has a block of its first mebibyte, and all of the second, which it has fetched meanwhile.
    """
    fake.put("film", FILM)
    fake.misbehave(faults.stall_after(300_000), times=1)
    async with processes(fake, tmp_path / "cache", 2) as (first, second):
        leader = asyncio.create_task(get(first.port))
        await eventually(lambda: fake.stalled == 1 and blocks_are_locked(tmp_path / "cache"))
        await eventually(lambda: cached_bytes(tmp_path / "cache") == MIB + 256 * 1024)
        follower = await looks_for_blocks(second)
        await first.kill()
        assert await follower
        with pytest.raises(AssertionError):
            assert (await leader).complete
    assert fake.sent["film"] <= len(FILM) + 300_000


async def test_the_one_that_fetches_is_stopped(fake: FakeS3, tmp_path: Path) -> None:
    """It keeps its locks: the others do without after a while, here shortened from 5 s, and those
    of one process share what it fetches.
    """
    fake.put("film", FILM)
    fake.misbehave(faults.stall_after(300_000), times=1)
    soon = {"rangeserver.cache.block_lock._OTHERS_SECONDS": 0.5}
    async with processes(fake, tmp_path / "cache", 2, constants=soon) as (first, second):
        leader = asyncio.create_task(get(first.port))
        await eventually(lambda: fake.stalled == 1 and blocks_are_locked(tmp_path / "cache"))
        first.send(signal.SIGSTOP)
        assert all(await asyncio.gather(*(is_exact(second.port) for _ in range(20))))
        first.send(signal.SIGCONT)
        fake.release()
        response = await leader
        assert response.complete
        assert response.body == FILM
        assert await is_exact(second.port)
    assert fake.sent["film"] <= 2 * len(FILM)


async def test_the_one_that_asks_first_is_killed(fake: FakeS3, tmp_path: Path) -> None:
    """Before there is anything of the object at all."""
    fake.put("film", FILM)
    fake.misbehave(faults.stall_after(faults.BEFORE_HEADER), times=1)
    async with processes(fake, tmp_path / "cache", 2) as (first, second):
        leader = asyncio.create_task(get(first.port))
        await eventually(lambda: fake.stalled == 1)
        follower = asyncio.create_task(is_exact(second.port))
        await asyncio.sleep(0.1)
        assert not follower.done()
        assert len(fake.requests) == 1
        await first.kill()
        assert await follower
        with pytest.raises((AssertionError, ConnectionError)):
            await leader
    assert fake.sent["film"] == len(FILM)


async def test_the_one_that_asks_first_is_stopped(fake: FakeS3, tmp_path: Path) -> None:
    """Others ask as well, after a while, here shortened from 5 s; both come to one file."""
    fake.put("film", FILM)
    fake.misbehave(faults.stall_after(faults.BEFORE_HEADER), times=1)
    soon = {"rangeserver.cache.object_lock._OTHERS_SECONDS": 0.3}
    async with processes(fake, tmp_path / "cache", 2, constants=soon) as (first, second):
        leader = asyncio.create_task(get(first.port))
        await eventually(lambda: fake.stalled == 1)
        first.send(signal.SIGSTOP)
        assert await is_exact(second.port)
        fake.release()
        first.send(signal.SIGCONT)
        assert (await leader).body == FILM
        assert await is_exact(first.port)
    assert fake.sent["film"] <= len(FILM) + MIB


@pytest.mark.fault("C16")
async def test_the_loop_has_nothing_to_do_for_those_who_wait_for_another_process(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers are asked for the same hundred cold objects of an origin that is silent."""
    keys = [f"film{number}" for number in range(100)]
    for key in keys:
        fake.put(key, FILM[:1000])
    fake.misbehave(faults.stall_after(faults.BEFORE_HEADER))
    on_the_loop = 0
    call = locks._call

    def counted(*args: Any) -> bytes:
        nonlocal on_the_loop
        on_the_loop += threading.current_thread() is threading.main_thread()
        return call(*args)

    monkeypatch.setattr(locks, "_call", counted)
    config = settings(fake, tmp_path / "cache")
    async with running_app(config) as first, running_app(config) as second:
        leaders = [asyncio.create_task(get(first.port, f"/{key}")) for key in keys]
        await eventually(lambda: fake.stalled == len(keys))
        followers = [asyncio.create_task(get(second.port, f"/{key}")) for key in keys]
        await asyncio.sleep(0.5)  # for a server that polls for each of them, 50 times each
        assert fake.stalled == len(keys)
        assert not any(task.done() for task in followers)
        fake.release()
        for response in await asyncio.gather(*leaders, *followers):
            assert (response.status, response.body) == (200, FILM[:1000])
    assert len(fake.requests) == len(keys)
    # Of each object the place is locked twice and freed twice, and so is its block once; some of
    # those who wait are woken in vain.
    assert on_the_loop <= 10 * len(keys)


@pytest.mark.parametrize("ttl_seconds", [0, 60])
async def test_a17_new_versions_at_two_processes(
    fake: FakeS3, tmp_path: Path, ttl_seconds: float
) -> None:
    """Whatever is served is of one version, the one that its header names."""
    bodies = [FILM[number : number + MIB + number % 2] for number in range(30)]
    versions: dict[str, bytes] = {}

    def put(body: bytes) -> None:
        fake.put("film", body)
        versions[fake.etag("film")] = body

    put(bodies[0])
    complete = 0
    async with processes(fake, tmp_path / "cache", 2, ttl_seconds=ttl_seconds) as servers:
        author_is_done = asyncio.Event()

        async def viewer(number: int) -> None:
            nonlocal complete
            dice = random.Random(number)
            while not author_is_done.is_set():
                start = dice.randrange(MIB)
                response = await get(servers[number % 2].port, Range=f"bytes={start}-")
                if response.status == 503:
                    continue
                version = versions[response.headers["etag"]]
                assert version[start:].startswith(response.body)
                complete += response.complete

        async def author() -> None:
            for body in bodies:
                put(body)
                await asyncio.sleep(0.02)
            author_is_done.set()

        await asyncio.gather(author(), *(viewer(number) for number in range(8)))
        assert complete
        if not ttl_seconds:
            for server in servers:
                assert await is_exact(server.port, bodies[-1])


async def test_c08_stopped_for_two_seconds(fake: FakeS3, tmp_path: Path) -> None:
    """In the middle of a fill: streams go on where they were."""
    fake.put("film", FILM)
    fake.misbehave(faults.drip(16 << 10, 0.002))
    async with processes(fake, tmp_path / "cache", 1) as (server,):
        viewers = [asyncio.create_task(is_exact(server.port)) for _ in range(10)]
        await eventually(lambda: fake.sent["film"] > MIB // 2)
        server.send(signal.SIGSTOP)
        await asyncio.sleep(2.0)
        assert not any(viewer.done() for viewer in viewers)
        server.send(signal.SIGCONT)
        assert all(await asyncio.gather(*viewers))
        assert (await get(server.port, "/film", Range="bytes=0-9")).body == FILM[:10]


@pytest.mark.timeout(600)
async def test_c05_killed_again_and_again(fake: FakeS3, tmp_path: Path) -> None:
    """Whenever it is: what the next process serves is right, no lock and no file without a name
    is left.
    """
    directory = tmp_path / "cache"
    dice = random.Random(5)
    keys = [f"film{number}" for number in range(6)]
    films = {key: FILM[number : number + MIB + number] for number, key in enumerate(keys)}
    for key, film in films.items():
        fake.put(key, film)
    config = settings(fake, directory)
    cut_off = 0
    for turn in range(200 if ALL else 24):
        async with forked(config, tmp_path / "log") as server:

            async def viewer(server: Forked, key: str) -> bool:
                """Whether it was cut off."""
                try:
                    response = await get(server.port, f"/{key}")
                except (AssertionError, ConnectionError):
                    return True  # before or inside its header
                assert films[key].startswith(response.body)
                return not response.complete

            viewers = [asyncio.create_task(viewer(server, key)) for key in dice.choices(keys, k=8)]
            enough = fake.sent.total() + dice.randrange(4 * MIB)
            await eventually(
                lambda: fake.sent.total() >= enough or all(each.done() for each in viewers)  # noqa: B023
            )
            await server.kill()
            cut_off += sum(await asyncio.gather(*viewers))
        assert not is_locked(directory / MARK)
        assert not blocks_are_locked(directory)
        if turn % 2:  # start afresh, or soon all would be there
            for path in sorted(directory.glob("objects/*/*"))[:4]:
                path.unlink()
    assert cut_off
    for path in directory.glob("new/*"):
        os.utime(path, (0, 0))  # long enough ago
    async with forked(config, tmp_path / "log") as server:
        for key in keys:
            assert (await get(server.port, f"/{key}")).body == films[key]
        await eventually(lambda: not list(directory.glob("new/*")))
        sent = fake.sent.total()
        for key in keys:
            assert (await get(server.port, f"/{key}")).body == films[key]
        assert fake.sent.total() == sent


def is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        return locks.first_locked(descriptor, 0, 0) is not None
    finally:
        os.close(descriptor)


def blocks_are_locked(directory: Path) -> bool:
    """Whether a process fetches blocks of an object."""
    return any(map(is_locked, directory.glob("objects/*/*")))


def cached_bytes(directory: Path) -> int:
    """How much of all objects can be read."""
    return summarize(Directory(directory)).cached_bytes


async def looks_for_blocks(server: Forked) -> asyncio.Task[bool]:
    """A viewer of a server that has begun to wait for what another process fetches."""
    viewer = asyncio.create_task(is_exact(server.port))

    async def waits() -> bool:
        return (await server.series())["rangeserver_active_streams"] == 1

    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await waits():  # noqa: ASYNC110 (it is another process)
            await asyncio.sleep(0.01)
    return viewer
