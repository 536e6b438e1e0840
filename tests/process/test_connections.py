"""Places for connections: who gets one, who has to go, and who is refused."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack

import pytest

from rangeserver.process.places import MAX_REFUSALS
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app

ASK = b"GET /a.mp4 HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"a.mp4": b"0123456789", "slow.mp4": bytes(1000)}


class Clients(AsyncExitStack):
    """Connections to a server, from any address of loopback."""

    def __init__(self, app: RunningApp) -> None:
        super().__init__()
        self.app = app

    async def one(self, address: str = "127.0.0.1") -> RawClient:
        sock = socket.socket()
        sock.bind((address, 0))
        return await self.enter_async_context(await RawClient.connect(self.app.port, sock=sock))

    async def idle(self, address: str = "127.0.0.1") -> RawClient:
        client = await self.one(address)
        assert (await client.get("/a.mp4")).status == 200
        return client


async def busy(clients: Clients, fake: FakeS3, count: int) -> list[RawClient]:
    """Connections on which something is being answered until the fake goes on."""
    fake.misbehave(faults.stall_after(100), key="slow.mp4")
    found = [await clients.one() for _ in range(count)]
    for client in found:
        await client.ask("/slow.mp4")
    await eventually(lambda: fake.stalled == count)
    return found


@pytest.mark.fault("B12")
async def test_busy_connections_stay_and_refused_ones_take_no_place(fake: FakeS3) -> None:
    config = config_for(fake, server={"max_connections": 3, "max_connections_per_client": 2})
    async with running_app(config) as app, Clients(app) as clients:
        admitted = await busy(clients, fake, 2)
        refused = await clients.one()
        answer = await refused.response()
        assert answer.status == 503
        assert json.loads(answer.body)["error"]["code"] == "too_many_connections"
        assert app.server.places.taken == 2
        admitted[0].reset()
        await eventually(lambda: app.server.places.taken == 1)
        assert (await (await clients.idle()).get("/a.mp4")).status == 200
        fake.release()
        assert (await admitted[1].response()).complete


async def test_only_so_many_refusals_are_answered_at_once(fake: FakeS3) -> None:
    config = config_for(fake, server={"max_connections": 1})
    async with running_app(config) as app, Clients(app) as clients:
        (admitted,) = await busy(clients, fake, 1)
        refused = [await clients.one() for _ in range(MAX_REFUSALS + 20)]
        answers = await asyncio.gather(*(client.rest() for client in refused))
        assert sum(answer.startswith(b"HTTP/1.1 503") for answer in answers) == MAX_REFUSALS
        assert answers.count(b"") == 20
        await eventually(lambda: app.server.places.refusing == 0)
        fake.release()
        assert (await admitted.response()).complete
        assert (await admitted.get("/a.mp4")).status == 200


async def test_idle_ones_of_whoever_has_most_are_the_first_to_go(fake: FakeS3) -> None:
    config = config_for(fake, server={"max_connections": 6})
    async with running_app(config) as app, Clients(app) as clients:
        alone = await clients.idle()
        (answered,) = await busy(clients, fake, 1)
        hoard = [await clients.idle("127.0.0.2") for _ in range(4)]
        for number, gone in enumerate(hoard[:2]):
            newcomer = await clients.idle(f"127.0.0.{number + 3}")
            assert await gone.rest() == b""
            assert not gone.was_reset
            assert (await newcomer.get("/a.mp4")).status == 200
        for client in (alone, *hoard[2:]):
            assert (await client.get("/a.mp4")).status == 200
        assert app.server.places.taken == 6
        fake.release()
        assert (await answered.response()).complete


@pytest.mark.parametrize("sent", [b"", b"GET /a.mp4 HT"], ids=["nothing", "a part of a head"])
async def test_a_hoard_of_connections_locks_nobody_out(fake: FakeS3, sent: bytes) -> None:
    config = config_for(fake, server={"max_connections": 40})
    async with running_app(config) as app, Clients(app) as hoard, Clients(app) as clients:
        for number in range(50):
            await (await hoard.one("127.0.0.2")).send(sent)
            await eventually(lambda: app.server.places.taken >= min(39, number))  # noqa: B023
        for _ in range(60):
            async with await clients.one() as client:
                assert (await client.get("/a.mp4")).status == 200


async def test_one_that_has_just_asked_does_not_have_to_go(fake: FakeS3) -> None:
    config = config_for(fake, server={"max_connections": 1})
    async with running_app(config) as app, Clients(app) as clients:
        asking = await clients.idle()
        # Without a turn of the event loop in between: the request lies in the socket.
        newcomer = socket.create_connection(("127.0.0.1", app.port))
        asking.sock.send(ASK)
        newcomer.setblocking(False)
        refused = await clients.enter_async_context(RawClient(newcomer))
        assert (await asking.response()).status == 200
        assert (await refused.head())[0] in {200, 503}
