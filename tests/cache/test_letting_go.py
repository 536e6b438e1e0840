"""However a response ends, it lets go of its cache file at once, without Python's collector.

The collector knows nothing of descriptors and comes rarely (:mod:`rangeserver.process.collector`),
so it is off here: a cycle that a response leaves behind would keep its file open, and the space of
one that was removed taken.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rangeserver.cache.cache_file import CacheFile
from rangeserver.web.exchange import Exchange, Outcome
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.faults.logs import reading_along
from tests.support import RawClient, RunningApp, config_for, eventually, running_app
from tests.tls import client_tls, server_tls

MIB = 1 << 20
BLOCK = 64 << 10
FILM = random.Random(1).randbytes(8 * MIB + 12_345)
OTHER = random.Random(2).randbytes(8 * MIB)

SOON_SECONDS = 2.0
"""For a busy machine: of itself it is a matter of milliseconds, and of a fill's last ones."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def open_files() -> set[int]:
    """The cache files that are open, by identity."""
    return {id(each) for each in gc.get_objects() if type(each) is CacheFile}


@dataclass(frozen=True, slots=True)
class Served:
    """A server and its origin."""

    app: RunningApp
    fake: FakeS3


async def is_cached(served: Served) -> None:
    async with await RawClient.connect(served.app.port) as client:
        assert (await client.get("/film")).body == FILM


async def begun(served: Served, **headers: str) -> RawClient:
    """A viewer who takes little, in the midst of a response that waits for it."""
    client = await RawClient.connect(served.app.port, receive_buffer=4096)
    await client.ask("/film", **headers)
    await client.head()
    return client


async def stalled(served: Served) -> RawClient:
    """A viewer in the midst of a response that waits for the origin."""
    served.fake.misbehave(faults.stall_after(4 * BLOCK + 5), key="film", times=1)
    client = await RawClient.connect(served.app.port)
    await client.ask("/film", Connection="close")
    await client.head()
    await eventually(lambda: served.fake.stalled == 1)
    return client


def file_of(served: Served) -> Path:
    assert served.app.cache is not None
    (path,) = served.app.cache.directory.path.glob("objects/*/*.rsc")
    return path


End = Callable[[Served], Awaitable[object]]


async def taken_whole(served: Served) -> None:
    await is_cached(served)


async def several_parts(served: Served) -> None:
    async with await RawClient.connect(served.app.port) as client:
        assert (await client.get("/film", Range="bytes=0-99,3000000-3000099")).complete


async def client_leaves(served: Served) -> None:
    await is_cached(served)
    (await begun(served)).close()


async def client_leaves_several_parts(served: Served) -> None:
    await is_cached(served)
    (await begun(served, Range=f"bytes=0-{4 * MIB},{5 * MIB}-")).reset()


async def client_leaves_as_the_origin_stalls(served: Served) -> None:
    (await stalled(served)).reset()


async def client_leaves_before_the_first_byte(served: Served) -> None:
    served.fake.misbehave(faults.stall_after(BEFORE_HEADER), key="film", times=1)
    async with await RawClient.connect(served.app.port) as client:
        await client.ask("/film")
        await eventually(lambda: served.fake.stalled == 1)


async def client_is_too_slow(served: Served) -> None:
    await is_cached(served)
    client = await begun(served)
    await eventually(lambda: not served.app.active)
    client.close()


async def origin_fails(served: Served) -> None:
    async with await stalled(served) as client:
        served.fake.misbehave(faults.error(500, "InternalError"), key="film", method=None)
        served.fake.release()
        assert len(await client.rest()) < len(FILM)


async def origin_has_another_version(served: Served) -> None:
    async with await stalled(served) as client:
        served.fake.put("film", OTHER)
        served.fake.release()
        assert len(await client.rest()) < len(FILM)


async def origin_has_another_version_and_tls(served: Served) -> None:
    """There the loss of a connection is told later than its response ends."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = served.app.server
    listening = await server.service.loop.create_server(server, sock=sock, ssl=server_tls())
    server.listening.append(listening)
    served.fake.misbehave(faults.stall_after(4 * BLOCK + 5), key="film", times=1)
    reader, writer = await asyncio.open_connection(*sock.getsockname(), ssl=client_tls())
    writer.write(b"GET /film HTTP/1.1\r\nHost: test\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await eventually(lambda: served.fake.stalled == 1)
    served.fake.put("film", OTHER)
    served.fake.release()
    with suppress(ConnectionError):
        assert len(await reader.read()) < len(FILM)
    writer.transport.abort()


async def file_is_removed(served: Served) -> None:
    async with await stalled(served) as client:
        file_of(served).unlink()
        served.fake.release()
        assert len(await client.rest()) == len(FILM)


async def another_version_while_it_is_read_past(served: Served) -> None:
    """The file is gone, as another process has removed it, and the origin has no more of it."""
    async with await stalled(served) as client:
        served.fake.put("film", OTHER)
        async with await RawClient.connect(served.app.port) as other:
            assert (await other.get("/film")).body == OTHER
        served.fake.release()
        await client.rest()


async def disk_is_full(served: Served) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    async with await stalled(served) as client:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CacheFile, "write", write)
            served.fake.release()
            assert len(await client.rest()) == len(FILM)


async def file_is_cut_short(served: Served) -> None:
    await is_cached(served)
    async with await begun(served, Connection="close") as client:
        os.truncate(file_of(served), MIB)
        assert len(await client.rest()) == len(FILM)


ENDS: dict[End, Outcome] = {
    taken_whole: Outcome.COMPLETE,
    several_parts: Outcome.COMPLETE,
    client_leaves: Outcome.CLIENT_GONE,
    client_leaves_several_parts: Outcome.CLIENT_GONE,
    client_leaves_as_the_origin_stalls: Outcome.CLIENT_GONE,
    client_leaves_before_the_first_byte: Outcome.CLIENT_GONE,
    client_is_too_slow: Outcome.CLIENT_TOO_SLOW,
    origin_fails: Outcome.ORIGIN_FAILED,
    origin_has_another_version: Outcome.ORIGIN_FAILED,
    origin_has_another_version_and_tls: Outcome.ORIGIN_FAILED,
    file_is_removed: Outcome.COMPLETE,
    another_version_while_it_is_read_past: Outcome.ORIGIN_FAILED,
    disk_is_full: Outcome.COMPLETE,
    file_is_cut_short: Outcome.COMPLETE,
}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_response_that_ended_keeps_no_file_open(
    fake: FakeS3, tmp_path: Path, end: End
) -> None:
    finished: list[Exchange] = []
    cache: dict[str, Any] = {
        "enabled": True,
        "directory": str(tmp_path),
        "min_free_bytes": 0,
        "block_bytes": BLOCK,
    }
    server = {"write_idle_seconds": 1.0} if end is client_is_too_slow else {}
    config = config_for(fake, cache=cache, server=server)
    fake.put("film", FILM)
    before = open_files()
    with reading_along() as log:  # without it, pytest's keeps errors and all they came through
        async with running_app(config, observers=[finished.append]) as app:
            assert app.cache is not None
            await end(Served(app, fake))
            await eventually(lambda: app.server.places.taken == 0)
            await eventually(lambda: ENDS[end] in {exchange.outcome for exchange in finished})
            app.cache.entries.clear()
            await eventually(lambda: open_files() <= before, SOON_SECONDS)
    assert not log.forbidden, log.forbidden


async def test_a_server_that_is_drained_keeps_no_file_open(fake: FakeS3, tmp_path: Path) -> None:
    cache = {"enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
    fake.put("film", FILM)
    before = open_files()
    async with running_app(config_for(fake, cache=cache)) as app:
        served = Served(app, fake)
        await is_cached(served)
        client = await begun(served)
    client.close()
    await eventually(lambda: open_files() <= before, SOON_SECONDS)
