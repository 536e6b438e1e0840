"""Clients that leave, take little, send much or come in numbers: B1 to B8, B11 and B12, past the
cache and through it. What is answered to each in every detail is tested elsewhere; here it is the
invariants that are looked at.
"""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import AsyncExitStack

import pytest

from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.faults.leaks import PER_ROUND
from tests.faults.repeating import served
from tests.support import RawClient, eventually

pytestmark = pytest.mark.usefixtures("way")

MIB = 1 << 20
FILM = random.Random(1).randbytes(16 * MIB)
"""More than the buffers of both sockets take."""

RESPONSES = "rangeserver_responses_total"
LITTLE = 4096
"""The buffer of a client that takes little."""


async def stalled(watch: Watch, buffer: int = LITTLE) -> RawClient:
    """A client that has asked for a film and takes nothing of it."""
    client = await RawClient.connect(watch.app.port, receive_buffer=buffer)
    await client.ask("/film")
    watch.asked += 1
    return client


async def left_by_all(watch: Watch) -> None:
    """Of some who left it cannot be known whether their request had come."""
    await eventually(lambda: watch.app.server.places.taken == 0)
    watch.asked = int(watch.rose(RESPONSES))


async def test_b01_leaving_anywhere(fake: FakeS3) -> None:
    dice = random.Random(1)
    async with watched(fake) as watch:
        watch.put("film", FILM)

        async def visit(target: str) -> None:
            client = await RawClient.connect(watch.app.port)
            await client.ask(target, Connection="close")  # it may want more than there is
            left = dice.choice([0, 1, 300, dice.randrange(len(FILM))])
            while left > 0 and (data := await client.receive(min(left, MIB))):
                left -= len(data)
            client.reset() if dice.random() < 0.5 else client.close()

        for _ in range(4):
            await asyncio.gather(*(visit("/film") for _ in range(15)))
        await left_by_all(watch)
        await watch.probe()
        await eventually(lambda: watch.app.acquired == 0)

        async def once(watch: Watch, key: str) -> None:
            await visit(f"/{key}")
            await eventually(lambda: watch.app.server.places.taken == 0)
            watch.asked = int(watch.rose(RESPONSES))

        watch.again(once, at_once=1, others_are_served=False)


async def test_b02_taking_nothing(fake: FakeS3) -> None:
    server = {"write_idle_seconds": 0.3, "min_rate_grace_seconds": 60}
    async with watched(fake, server=server) as watch:
        watch.put("film", FILM)
        clients = [await stalled(watch) for _ in range(10)]
        await watch.probe()
        await watch.counts(10, RESPONSES, outcome="client_too_slow", status="200", method="GET")
        for client in clients:
            await client.head()
            assert len(await client.rest()) < len(FILM)
            assert client.was_reset
            client.close()
        watch.again(served)


async def test_b03_taking_too_little(fake: FakeS3) -> None:
    """Something now and then, but less than the least."""
    server = {
        "write_idle_seconds": 60,
        "min_rate_grace_seconds": 0.3,
        "min_bytes_per_second": 100 * MIB,
    }
    async with watched(fake, server=server) as watch:
        watch.put("film", FILM)
        client = await stalled(watch)
        await client.head()
        received = 0
        while data := await client.receive(2048):
            received += len(data)
            await asyncio.sleep(0.01)
        assert client.was_reset
        assert received < len(FILM)
        client.close()
        await watch.counts(1, RESPONSES, outcome="client_too_slow", status="200", method="GET")
        watch.again(served)


async def test_b04_slow_within_the_rules(fake: FakeS3) -> None:
    """Pauses longer than the least rate's grace, and shorter than what a pause may be."""
    server = {"write_idle_seconds": 20, "min_rate_grace_seconds": 0.2, "min_bytes_per_second": 1}
    async with watched(fake, server=server) as watch:
        watch.put("film", FILM)
        client = await stalled(watch)
        for _ in range(2):
            await asyncio.sleep(0.5)
            await client.receive_more()
        client.close()
        await left_by_all(watch)
        async with await stalled(watch, buffer=MIB) as client:
            await asyncio.sleep(0.5)
            assert (await client.response()).body == FILM
        watch.again(served)


async def test_b05_closing_the_sending_side(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = 0.5  # it is looked at then whether the client is still there
    monkeypatch.setattr("rangeserver.process.pipeline._HALF_CLOSED_SECONDS", soon)

    async def once(watch: Watch, key: str) -> None:
        async with await RawClient.connect(watch.app.port) as client:
            await client.ask(f"/{key}")
            watch.asked += 1
            client.sock.shutdown(socket.SHUT_WR)
            response = await client.response()
            assert response.complete
            assert response.body == watch.fake.body(key)
            assert await client.rest() == b""
        await asyncio.sleep(2 * soon)

    async with watched(fake) as watch:
        watch.put("film", FILM)
        await once(watch, "film")
        watch.again(once, at_once=PER_ROUND)


async def test_b06_headers_that_do_not_come(fake: FakeS3) -> None:
    async with watched(fake, server={"header_seconds": 0.3, "keep_alive_seconds": 0.3}) as watch:
        for begun in (b"", b"G", b"GET /film HTTP/1.1\r\nHost: a\r\nX-A: "):
            async with await RawClient.connect(watch.app.port) as client:
                await client.send(begun)
                assert not (await client.rest()).startswith(b"HTTP/1.1 200")
        await left_by_all(watch)

        async def once(watch: Watch, key: str) -> None:
            """A header that came in time, and one that never comes, on one connection."""
            async with await RawClient.connect(watch.app.port) as client:
                assert (await client.get(f"/{key}")).complete
                watch.asked += 1
                await client.send(b"GET")
                assert not (await client.rest()).startswith(b"HTTP/1.1 200")

        watch.again(once, at_once=PER_ROUND)


async def test_b07_bodies_where_none_is_due(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM[:MIB])
        async with await RawClient.connect(watch.app.port) as client:
            for body in (b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n"):
                await client.send(
                    b"GET /film HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
                )
                assert (await client.response()).body == FILM[:MIB]
                watch.asked += 1
        async with await RawClient.connect(watch.app.port) as client:
            await client.send(
                b"POST /film HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc"
            )
            assert (await client.response()).status == 405
            watch.asked += 1
        await watch.probe()
        watch.again(served)


async def test_b08_many_requests_and_no_reading(fake: FakeS3) -> None:
    """One of them is being answered, and the others wait where they are."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        client = await RawClient.connect(watch.app.port, receive_buffer=LITTLE)
        request = b"GET /film HTTP/1.1\r\nHost: a\r\n\r\n"
        sending = asyncio.create_task(client.send(request * 20_000))
        await eventually(lambda: len(watch.app.active) > 0)
        for _ in range(5):
            await watch.probe()
            assert len(watch.app.active) == 1
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        client.reset()
        await left_by_all(watch)
        watch.again(served)


async def test_b11_one_client_asks_for_very_much(fake: FakeS3) -> None:
    """Hundreds of scattered bytes: others are served, and the origin is asked for no more than was
    asked of us, and a block now and then.
    """
    dice = random.Random(2)
    async with watched(fake) as watch:
        watch.put("film", FILM)

        async def one_byte() -> None:
            at = dice.randrange(len(FILM))
            received = await watch.get("/film", goes_on=False, Range=f"bytes={at}-{at}")
            assert received.body == FILM[at : at + 1]

        for _ in range(4):
            asked = asyncio.gather(*(one_byte() for _ in range(50)))
            await watch.probe()
            await asked
        assert fake.sent["film"] <= len(FILM) + 200
        watch.again(served)


async def test_b12_more_connections_than_allowed(fake: FakeS3) -> None:
    """Refused while all are busy, and served again as soon as others have left."""
    async with watched(fake, server={"max_connections": 10}) as watch:
        watch.put("film", FILM)
        async with AsyncExitStack() as stack:
            busy = [await stack.enter_async_context(await stalled(watch)) for _ in range(10)]
            for client in busy:
                assert (await client.head())[0] == 200
            for _ in range(20):
                async with await RawClient.connect(watch.app.port) as refused:
                    assert (await refused.response()).status == 503
                watch.asked += 1
        await eventually(lambda: watch.app.server.places.taken == 0)
        await watch.probe()
        watch.again(served)
