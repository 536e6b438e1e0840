"""A server that stops: what was asked is answered, and nobody is left waiting."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rangeserver.process.connection_server import ConnectionServer
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RawResponse, RunningApp, config_for, eventually, running_app
from tests.tls import TlsClient, tls_files, trusting

FILM = random.Random(4).randbytes((5 << 20) + 321)
"""More than the sockets take."""

CLIP = b"0123456789"
ASK = b"GET /clip HTTP/1.1\r\nHost: test\r\n\r\n"


@dataclass(slots=True)
class Stopping:
    """A running server that can be told to stop."""

    app: RunningApp
    server: ConnectionServer
    fake: FakeS3
    stack: AsyncExitStack
    tls: dict[str, str]
    ending: asyncio.Task[None] | None = None
    clients: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def client(self, receive_buffer: int | None = None) -> RawClient:
        port = self.app.port
        if not self.tls:
            client = await RawClient.connect(port, receive_buffer=receive_buffer)
        else:
            context = trusting(self.tls)
            client = await TlsClient.open(port, context, receive_buffer=receive_buffer)
        return await self.clients.enter_async_context(client)

    async def answered(self) -> RawClient:
        """A client that has asked and waits for nothing."""
        client = await self.client()
        assert (await client.get("/clip")).body == CLIP
        return client

    async def slow(self) -> RawClient:
        """A client whose response is running, and will until it is read."""
        client = await self.client(receive_buffer=4096)
        await client.ask("/film")
        await eventually(lambda: any(each.response_begun for each in self.app.active))
        return client

    def stop(self) -> None:
        """As at SIGTERM; nothing has happened yet when this returns."""
        self.ending = asyncio.create_task(self.stack.pop_all().aclose())

    async def stopping(self) -> None:
        self.stop()
        await eventually(lambda: self.app.active.draining)
        await eventually(lambda: not self.app.server.listening)

    async def stopped(self) -> None:
        assert self.ending is not None
        async with asyncio.timeout(10):
            await self.ending
        assert self.server.places.taken == 0


@asynccontextmanager
async def stopping(
    directory: Path, *, cached: bool = False, tls: bool = False, **server: Any
) -> AsyncIterator[Stopping]:
    cache = {"enabled": True, "directory": str(directory / "cache"), "min_free_bytes": 0}
    files = tls_files(directory) if tls else {}
    async with FakeS3() as fake, AsyncExitStack() as stack:
        fake.put("film", FILM)
        fake.put("clip", CLIP)
        config = config_for(
            fake,
            server={"drain_seconds": 60, **files, **server},
            cache=cache if cached else None,
            ttl_seconds=60 if cached else 0,
        )
        app = await stack.enter_async_context(running_app(config))
        place = Stopping(app, app.server, fake, stack, files)
        async with place.clients:
            if cached:
                for key in ("clip", "film"):
                    assert (await (await place.client()).get(f"/{key}")).complete
            yield place


@pytest.fixture(params=["plain", "plain, cached", "TLS", "TLS, cached"])
async def place(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stopping]:
    cached, tls = "cached" in request.param, "TLS" in request.param
    async with stopping(tmp_path, cached=cached, tls=tls) as found:
        yield found


def send_now(client: RawClient, data: bytes) -> None:
    """Send without a turn of the event loop: it lies in the server's socket then."""
    if isinstance(client, TlsClient):
        client.tls.write(data)
        data = client.outgoing.read()
    assert client.sock.send(data) == len(data)


async def check_last(client: RawClient) -> None:
    """One answer, which says that it is the last, and a clean end."""
    response = await client.response()
    assert (response.status, response.body) == (200, CLIP)
    assert response.headers["connection"] == "close"
    await check_end(client)


async def check_end(client: RawClient) -> None:
    assert await client.rest() == b""
    assert not client.was_reset
    assert not isinstance(client, TlsClient) or client.ended_well


def check_film(response: RawResponse) -> None:
    assert response.complete
    assert response.body == FILM


@pytest.mark.fault("E6")
async def test_idle_connections_end_while_a_response_runs(place: Stopping) -> None:
    running = await place.slow()
    idle = [await place.answered() for _ in range(5)]
    await place.stopping()
    for client in idle:
        await check_end(client)
    assert len(place.app.active) == 1
    check_film(await running.response())
    await check_end(running)
    await place.stopped()


@pytest.mark.parametrize("busy", [False, True], ids=["nothing runs", "a response runs"])
async def test_a_request_that_has_arrived_is_answered(place: Stopping, busy: bool) -> None:
    running = await place.slow() if busy else None
    clients = [await place.answered() for _ in range(5)]
    for client in clients:
        send_now(client, ASK)
    place.stop()
    for client in clients:
        assert (await client.response()).body == CLIP  # perhaps before the server began to stop
        await check_end(client)
    if running is not None:
        check_film(await running.response())
    await place.stopped()


async def test_so_is_one_of_which_only_a_part_has_arrived(place: Stopping) -> None:
    client = await place.answered()
    send_now(client, ASK[:20])
    place.stop()
    await eventually(lambda: place.app.active.draining)
    await client.send(ASK[20:])
    await check_last(client)
    await place.stopped()


@pytest.mark.parametrize("late", [False, True], ids=["before", "during the drain"])
async def test_a_request_behind_one_that_is_being_answered(place: Stopping, late: bool) -> None:
    client = await place.slow()
    if not late:
        send_now(client, ASK)
    await place.stopping()
    if late:
        await client.send(ASK + ASK)
    check_film(await client.response())
    if late:
        assert (await client.response()).body == CLIP
    await check_last(client)
    await place.stopped()


async def test_who_waits_to_be_accepted_is_answered(tmp_path: Path) -> None:
    async with stopping(tmp_path) as place, AsyncExitStack() as stack:
        clients = []
        for _ in range(20):  # none of them with a turn of the event loop
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", place.app.port)))
            sock.sendall(ASK)
            sock.setblocking(False)
            clients.append(RawClient(sock))
        place.stop()
        for client in clients:
            await check_last(client)
        await place.stopped()


async def test_who_has_just_come_may_ask(place: Stopping) -> None:
    client = await place.client()
    await eventually(lambda: place.server.places.taken > 0)
    place.stop()
    await eventually(lambda: place.app.active.draining)
    await client.send(ASK)
    await check_last(client)
    await place.stopped()


@pytest.mark.parametrize("sent", [b"", ASK[:20]], ids=["nothing", "a part"])
async def test_who_does_not_ask_is_not_waited_for(
    place: Stopping, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rangeserver.process.pipeline.GRACE_SECONDS", 0.05)
    client = await place.client()
    await client.send(sent)
    await place.stopping()
    await check_end(client)
    await place.stopped()


async def test_who_does_not_shake_hands_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rangeserver.process.connection_server.GRACE_SECONDS", 0.05)
    async with (
        stopping(tmp_path, tls=True) as place,
        await RawClient.connect(place.app.port) as client,
    ):
        await eventually(lambda: len(place.server.handshaking) == 1)
        place.stop()
        assert await client.rest() == b""
        await place.stopped()


async def test_who_shakes_hands_is_waited_for(tmp_path: Path) -> None:
    async with (
        stopping(tmp_path, tls=True) as place,
        await TlsClient.connect(place.app.port) as client,
    ):
        await eventually(lambda: len(place.server.handshaking) == 1)
        place.stop()
        await eventually(lambda: place.app.active.draining)
        await client.shake_hands(trusting(place.tls))
        await client.send(ASK)
        await check_last(client)
        await place.stopped()


async def test_bytes_that_nobody_reads_do_not_cost_a_client_its_response(place: Stopping) -> None:
    """A socket that is closed with such in it is reset, and takes what is still under way along."""
    client = await place.client(receive_buffer=4096)
    await client.ask("/film", Connection="close")
    with suppress(ConnectionError):
        for _ in range(8):
            await client.send(bytes(4000))
    response = await client.response()
    check_film(response)
    assert response.headers["connection"] == "close"
    await check_end(client)
