"""What one connection can make a server hold, whatever is sent over it: counted in what the server
takes, and in its memory.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from rangeserver.process.request_reader import AHEAD_BYTES, HEAD_BYTES
from rangeserver.process.sockets import RECEIVE_BUFFER_BYTES
from tests.cli.commands import Served, served
from tests.fakes.s3 import FakeS3
from tests.faults.memory import resident_bytes
from tests.support import RawClient, config_for, eventually, running_app

CONNECTIONS = 8
FILM = bytes(5 << 20)
"""More than the sockets take."""

SEND_BUFFER = 8192
TAKEN_BYTES = HEAD_BYTES + AHEAD_BYTES + 4 * (2 * RECEIVE_BUFFER_BYTES + SEND_BUFFER)
"""What a client gets rid of at most: a read more than there should be, a socket of ours, one of the
client; each may hold some more than it was told to.
"""

RESIDENT_BYTES = 600_000
"""Without the cache, half of it is what waits for a client that reads nothing."""

SLOW = b"GET /film HTTP/1.1\r\nHost: test\r\n\r\n"
FIELDS = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 8000) for number in range(120))
LARGE = b"GET /film HTTP/1.1\r\nHost: test\r\n" + FIELDS
POST = b"POST /film HTTP/1.1\r\nHost: test\r\n"

CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = CHUNKED + b"1\r\nx\r\n" * 500_000

BEHIND_ANOTHER = {
    "requests": SLOW + (LARGE + b"\r\n") * 3,
    "small requests": SLOW * 80_000,
    "garbage": SLOW + b"\0garbage" * 400_000,
    "chunks": SLOW + CHUNKS,
}

ANSWERED = {
    "a head without end": LARGE * 3,
    "a field without end": b"GET /film HTTP/1.1\r\nX-A: " + b"y" * 3_000_000,
    "empty lines": b"\r\n" * 1_500_000,
    "a body": POST + b"Content-Length: 4000000\r\n\r\n" + bytes(3_000_000),
    "small chunks": CHUNKS,
    "a chunk extension": CHUNKED + b"5;a=" + b"1" * 3_000_000,
}
"""Then what still comes is thrown away for two seconds, so that the answer is not lost."""


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"film": FILM}


async def connect(port: int) -> RawClient:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return await RawClient.connect(port, receive_buffer=4096, sock=sock)


async def push(client: RawClient, data: bytes) -> int:
    """How many bytes of ``data`` are taken, until no more are for a while."""
    left, patience = memoryview(data), 20
    while left and patience:
        try:
            left = left[client.sock.send(left[:65536]) :]
            patience = 20
        except BlockingIOError:
            patience -= 1
            await asyncio.sleep(0.01)
        except ConnectionError:
            break
        else:
            await asyncio.sleep(0)
    return len(data) - len(left)


async def check(server: Served, data: bytes, *, answered: bool = False) -> None:
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(await connect(server.port)) for _ in range(CONNECTIONS)
        ]
        before = resident_bytes(server.process.pid)
        taken = await asyncio.gather(*(push(client, data) for client in clients))
        grown = resident_bytes(server.process.pid) - before
        assert answered or max(taken) < TAKEN_BYTES
        assert grown < CONNECTIONS * RESIDENT_BYTES


@pytest.mark.fault("B13")
@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
async def test_what_a_connection_holds_is_bounded(
    fake: FakeS3, tmp_path: Path, cached: bool
) -> None:
    environ = {
        "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
        "RANGESERVER_CACHE__ENABLED": str(cached).lower(),
        "RANGESERVER_CACHE__DIRECTORY": str(tmp_path / "cache"),
        "RANGESERVER_CACHE__MIN_FREE_BYTES": "0",
        "RANGESERVER_LOG__ACCESS": "false",
    }
    arguments = ("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url)
    async with served(*arguments, environ=environ) as server:
        for _ in range(2):
            async with await RawClient.connect(server.port) as client:
                assert (await client.get("/film")).complete
        await check(server, SLOW)  # what responses take, once
        for what, data in (BEHIND_ANOTHER | ANSWERED).items():
            try:
                await check(server, data, answered=what in ANSWERED)
            except AssertionError as error:
                raise AssertionError(what) from error
        async with await RawClient.connect(server.port) as client:
            assert (await client.get("/film", Range="bytes=0-9")).body == FILM[:10]


@pytest.mark.parametrize(("length", "status"), [(HEAD_BYTES, 200), (HEAD_BYTES + 1, 400)])
@pytest.mark.parametrize("piece", [1 << 20, 1000, 7], ids=["at once", "1000", "7"])
async def test_a_head_has_so_many_bytes_in_all(
    fake: FakeS3, length: int, status: int, piece: int
) -> None:
    fake.put("a", b"0123456789")
    head = b"GET /a HTTP/1.1\r\nHost: test\r\n" + b"X: %b\r\n" % (b"y" * 7000) * 4
    head += b"X: %b\r\n\r\n" % (b"y" * (length - len(head) - 7))
    assert len(head) == length
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        with suppress(ConnectionError):
            for start in range(0, length, piece):
                await client.send(head[start : start + piece])
        response = await client.response()
        assert response.status == status
        if status == 400:
            assert b"request_too_long" in response.body
            assert await client.rest() == b""
            assert not client.was_reset


async def test_what_was_held_is_let_go_of_with_its_connection(fake: FakeS3) -> None:
    async with running_app(config_for(fake)) as app, await connect(app.port) as client:
        await push(client, BEHIND_ANOTHER["small requests"])
        (connection,) = app.server.connections
        assert 0 < len(connection.pipeline.reader.ahead) < TAKEN_BYTES
        client.reset()
        await eventually(lambda: not app.server.connections)
