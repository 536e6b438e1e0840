"""Calls to the cache's disk that fail or do not come back: C1, C2, C4 and C10."""

from __future__ import annotations

import asyncio
import random
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rangeserver.cache.cache_file import CacheFile
from tests.cli.commands import Served, run, served
from tests.exposition import Scrape, parsed
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import watched
from tests.faults.logs import FORBIDDEN
from tests.faults.test_cache_disk import BLOCK, ERRORS, FILM, kept, mounted, the_file, whole
from tests.faults.tools import needs
from tests.support import RawClient, RawResponse, eventually

OTHER = random.Random(2).randbytes(300_000)


def environ(directory: Path, **settings: object) -> dict[str, str]:
    """The settings of :func:`kept` for a process."""
    cache = {**kept(directory, **settings), "min_free_bytes": 0}
    named = {f"RANGESERVER_CACHE__{name.upper()}": str(value) for name, value in cache.items()}
    return {**named, "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path"}


def against(fake: FakeS3) -> tuple[str, ...]:
    return ("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url)


class Process:
    """A server of its own, and what is asked of it."""

    def __init__(self, server: Served) -> None:
        self.server = server

    async def get(self, target: str, **headers: str) -> tuple[RawResponse, dict[str, Any]]:
        """A response and its access line; nothing that must not be logged comes before it."""
        async with await RawClient.connect(self.server.port) as client:
            response = await client.get(target, **headers)
        while True:
            line = await self.server.line()
            assert not FORBIDDEN.search(str(line)), line
            if line.get("request_id") == response.headers["x-request-id"] and "outcome" in line:
                return response, line

    async def whole(self, film: bytes = FILM) -> None:
        response, line = await self.get("/film")
        assert (response.status, response.complete) == (200, True)
        assert response.body == film
        assert line["outcome"] == "complete"

    async def scrape(self) -> Scrape:
        async with await RawClient.connect(self.server.admin_port) as client:
            return parsed((await client.get("/metrics")).body.decode())


@asynccontextmanager
async def process(fake: FakeS3, directory: Path, *calls: str) -> AsyncIterator[Process]:
    """A server of which system calls fail as told in the words of strace."""
    prefix: tuple[str, ...] = ()
    if calls:
        log = str(directory.parent / "strace")
        prefix = ("strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", log, *calls)
    async with served(
        *against(fake), environ=environ(directory), prefix=prefix, program="tests.fairly"
    ) as server:
        yield Process(server)


@needs("strace")
@pytest.mark.parametrize("when", ["1+", "4+2"])
async def test_c01_no_space(fake: FakeS3, tmp_path: Path, when: str) -> None:
    fake.put("film", FILM)
    fault = f"inject=pwrite64:error=ENOSPC:when={when}"
    async with process(fake, tmp_path / "cache", "-e", "trace=pwrite64", "-e", fault) as server:
        for _ in range(3):
            await server.whole()
        assert (await server.scrape())(ERRORS, kind="write") > 0


@needs("strace")
@pytest.mark.parametrize("when", ["1+", "2+"])
async def test_c02_input_output_error(fake: FakeS3, tmp_path: Path, when: str) -> None:
    directory = tmp_path / "cache"
    async with watched(fake, cache=kept(directory)) as watch:
        watch.put("film", FILM)
        await whole(watch)
    before = fake.sent["film"]
    fault = f"inject=pread64:error=EIO:when={when}"
    only = ("-P", str(the_file(directory)), "-e", "trace=pread64")
    async with process(fake, directory, *only, "-e", fault) as server:
        for _ in range(3):
            await server.whole()
        assert fake.sent["film"] > before
        now = await server.scrape()
        assert now(ERRORS, kind="read") + now(ERRORS, kind="damaged") > 0
        assert now("rangeserver_cache_usable") == 1


@needs("strace")
async def test_c02_input_output_error_while_it_is_sent(fake: FakeS3, tmp_path: Path) -> None:
    """What was not sent is read again."""
    fake.put("film", FILM)
    fault = ("-e", "trace=sendfile", "-e", "inject=sendfile:error=EIO:when=2")
    async with process(fake, tmp_path / "cache", *fault) as server:
        await server.whole()
        await server.whole()


async def test_c04_no_directory_where_one_is_required(fake: FakeS3, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / "cache"
    finished = await run(
        "serve", "--port", "0", "--admin-port", "0", *against(fake), environ=environ(directory)
    )
    assert finished.code == 78
    (line,) = finished.err.splitlines()
    assert str(directory) in line
    assert "cache.directory" in line


@needs("mount", root=True)
async def test_c04_a_directory_that_cannot_be_written(fake: FakeS3, tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    with mounted(directory, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        finished = await run(
            "serve", "--port", "0", "--admin-port", "0", *against(fake), environ=environ(directory)
        )
    assert finished.code == 78
    (line,) = finished.err.splitlines()
    assert "Read-only file system" in line


@needs("mount", root=True)
async def test_c04_a_directory_that_comes_later(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not required: everything is served, and kept once it can be."""
    monkeypatch.setattr("rangeserver.cache.maintenance._RETRY_SECONDS", 0.1)
    directory = tmp_path / "cache"
    with mounted(directory, "-t", "tmpfs", "-o", "ro", "tmpfs"):
        async with watched(fake, cache=kept(directory, required=False)) as watch:
            watch.put("film", FILM)
            for _ in range(2):
                fetched = fake.sent["film"]
                await whole(watch)
                assert fake.sent["film"] == fetched + len(FILM)
            assert not watch.cache.may_write()
            remount(directory, "rw")
            await eventually(watch.cache.may_write)
            await whole(watch)
            fetched = fake.sent["film"]
            await whole(watch)
            assert fake.sent["film"] == fetched


def remount(directory: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(directory)], check=True)


@pytest.mark.parametrize("hanging", ["warm", "checksums"])
async def test_c10_every_thread_hangs(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch, hanging: str
) -> None:
    """64 readers wait for a disk that does not answer: they are served past it, as others are."""
    monkeypatch.setattr("rangeserver.cache.maintenance._RETRY_SECONDS", 0.2)
    for module in ("cached_read", "resident_span"):
        monkeypatch.setattr(f"rangeserver.cache.{module}.is_resident", lambda *_: False)
    go_on = threading.Event()
    works = getattr(CacheFile, hanging)

    def hangs(*args: Any, **kwargs: Any) -> Any:
        go_on.wait()
        return works(*args, **kwargs)

    cache = {"block_bytes": BLOCK, "ttl_seconds": 60}
    async with watched(fake, admin=True, cache=cache) as watch:
        keys = [f"film{number}" for number in range(64)]
        for key in keys:
            watch.put(key, FILM[: 5 * BLOCK])
        if hanging == "warm":
            for key in keys:
                await watch.get(f"/{key}", goes_on=False)
        watch.put("new", OTHER)
        monkeypatch.setattr(CacheFile, hanging, hangs)
        try:
            asked = [asyncio.create_task(watch.get(f"/{key}", goes_on=False)) for key in keys]
            await eventually(watch.cache.disk.is_stuck)
            for _ in range(3):
                async with await RawClient.connect(watch.app.admin_port) as client:
                    async with asyncio.timeout(1.0):
                        assert (await client.get("/healthz")).status == 200
                received = await watch.get("/new", goes_on=False)
                assert (received.status, received.complete) == (200, True)
                assert received.seconds < 1.0
            for received in await asyncio.gather(*asked):
                assert (received.status, received.complete) == (200, True)
        finally:
            go_on.set()
        await eventually(lambda: not watch.cache.disk.is_stuck())
        await eventually(watch.cache.may_write)
        await watch.get("/new")
        fetched = fake.sent["new"]
        await watch.get("/new")
        assert fake.sent["new"] == fetched
