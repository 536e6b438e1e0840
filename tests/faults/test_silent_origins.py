"""An origin that does not answer, or asks for peace: A6, A7, A9, A10, A23, A24."""

from __future__ import annotations

import asyncio
import random
import socket
import time

import aiohttp
import pytest
from aiohttp.abc import ResolveResult
from aiohttp.resolver import DefaultResolver

from rangeserver.app import METRICS
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import DEADLINES, Watch, watched
from tests.support import RawClient, eventually

MIB = 1 << 20
FILM = random.Random(1).randbytes(8 * MIB)
REQUESTS = "rangeserver_origin_requests_total"
CIRCUIT = "rangeserver_origin_circuit_open"
SLACK_SECONDS = 1.0
"""For a busy machine."""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a06_stall_before_the_header(fake: FakeS3, method: str) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(BEFORE_HEADER), key="film", method=None)
        running = asyncio.create_task(watch.get("/film", method=method))
        await eventually(lambda: fake.stalled >= 1)
        await watch.probe()
        received = await running
        assert received.status == 504
        if method == "GET":
            assert received.error_code == "origin_timeout"
        assert received.seconds < DEADLINES["response_seconds"] + SLACK_SECONDS
        hits = sum(1 for request in fake.requests if request.key == "film")
        assert hits <= DEADLINES["max_attempts"]


async def test_a06_repetitions(fake: FakeS3) -> None:
    """Fewer of them: each waits for its deadline."""
    brief = {"response_seconds": 0.2, "max_attempts": 1}
    async with watched(fake, origin=brief) as watch:

        async def once(key: str) -> None:
            received = await watch.get(f"/{key}", goes_on=False)
            assert received.status in {503, 504}  # 503: given up on for a while

        await watch.leaves_no_memory(once, lambda: faults.stall_after(BEFORE_HEADER), times=40)


async def test_a07_refused_connections(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        await fake.refuse()
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (502, "origin_unreachable")
        assert received.seconds < 1
        assert watch.rose(REQUESTS, outcome="unreachable") <= DEADLINES["max_attempts"]
        statuses = [(await watch.get("/film", goes_on=False)).status for _ in range(20)]
        assert set(statuses) <= {502, 503}
        await fake.listen()
        await served_again(watch)


async def served_again(watch: Watch) -> None:
    """The server finds out by itself that the origin is back."""
    deadline = time.monotonic() + 10
    while (await watch.get("/film", goes_on=False)).status != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a07_the_circuit_opens_and_closes(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        await fake.refuse()
        async with asyncio.timeout(10):
            while (received := await watch.get("/film", goes_on=False)).status != 503:
                assert received.status == 502
        assert received.error_code == "origin_suspended"
        assert int(received.headers["retry-after"]) >= 1
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 1
        tried = watch.rose(REQUESTS)
        for _ in range(50):
            assert (await watch.get("/film", goes_on=False)).status in {502, 503}
        assert watch.rose(REQUESTS) <= tried + 5  # an attempt now and then, to see
        await fake.listen()
        await served_again(watch)
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 0


class Names:
    """A resolver of one name, whose answers a test decides."""

    def __init__(self) -> None:
        self.address: str | None = "127.0.0.1"
        self.answering = asyncio.Event()
        self.answering.set()

    async def resolve(
        self, _: object, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        await self.answering.wait()
        if self.address is None:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(
                hostname=host, host=self.address, port=port, family=family, proto=0, flags=0
            )
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()

    async def resolve(
        resolver: object, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        return await names.resolve(resolver, host, port, family)

    monkeypatch.setattr(DefaultResolver, "resolve", resolve)
    return names


def named(fake: FakeS3) -> dict[str, str]:
    return {"endpoint_url": f"http://origin.test:{fake.port}"}


async def test_a09_no_such_name(fake: FakeS3, names: Names) -> None:
    names.address = None
    async with watched(fake, origin=named(fake), reachable=False) as watch:
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (502, "origin_unreachable")
        assert received.seconds < DEADLINES["response_seconds"] + SLACK_SECONDS
        names.address = "127.0.0.1"
        watch.put("film", FILM)
        await served_again(watch)


async def test_a09_slow_name(fake: FakeS3, names: Names) -> None:
    async with watched(fake, origin=named(fake), reachable=False) as watch:
        watch.put("film", FILM)
        names.answering.clear()
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (504, "origin_timeout")
        assert received.seconds < DEADLINES["response_seconds"] + SLACK_SECONDS
        names.answering.set()  # a thread in getaddrinfo cannot be stopped: it is waited for
        await served_again(watch)


async def test_a09_changed_address(fake: FakeS3, names: Names) -> None:
    """An address is believed for ten seconds at most, which here are made to pass quickly."""
    async with watched(fake, origin=named(fake)) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film")).complete
        async with FakeS3(host="127.0.0.2", port=fake.port) as moved:
            moved.put("film", FILM)
            moved.put("probe.bin", bytes(range(256)) * 16)
            (table,) = [
                connector._cached_hosts
                for connector in watch.app.pool.connectors
                if isinstance(connector, aiohttp.TCPConnector)
            ]
            assert table._ttl is not None
            assert table._ttl <= 10
            table._ttl = 0.0
            names.address = moved.host
            await fake.refuse()  # its connections are gone, so that new ones are made
            await served_again(watch)
            assert moved.requests != []
            names.address = fake.host
        await fake.listen()
        await served_again(watch)


async def test_a10_slow_down(fake: FakeS3) -> None:
    """New requests are told to wait, what runs goes on, and the origin is not asked more often."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        for number in range(4):
            watch.put(f"other{number}", FILM)
        fake.misbehave(faults.stall_after(2 * MIB), key="film", times=1)
        running = asyncio.create_task(watch.get("/film"))
        await eventually(lambda: fake.stalled == 1)
        fake.release()
        for number in range(4):
            fake.misbehave(faults.error(503, "SlowDown"), key=f"other{number}", method=None)
        fake.requests.clear()
        asked = 0

        async def client(number: int) -> None:
            nonlocal asked
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                received = await watch.get(f"/other{number}", goes_on=False)
                assert received.status == 503
                assert received.error_code in {"origin_throttled", "origin_suspended"}
                assert int(received.headers["retry-after"]) >= 1
                asked += 1

        await asyncio.gather(*(client(number % 4) for number in range(24)))
        hits = sum(1 for request in fake.requests if request.key.startswith("other"))
        assert hits <= asked * 1.1 + RETRY_BUDGET
        assert (await running).complete
        fake.behave()
        for number in range(4):
            deadline = time.monotonic() + 10
            while (await watch.get(f"/other{number}", goes_on=False)).status != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)


RETRY_BUDGET = 120
"""Retries that a bucket of tokens allows before it is empty, at most."""


async def test_a23_origin_closes_idle_connections() -> None:
    """A request may meet a connection that is being closed: nobody notices. 1000 requests, spaced
    so that many come just when the origin loses patience.
    """
    async with FakeS3(keep_alive_seconds=0.01) as fake, watched(fake) as watch:
        watch.put("film", FILM)

        async def client(seed: int) -> None:
            spaces = random.Random(seed)
            for _ in range(100):
                await asyncio.sleep(spaces.uniform(0.0, 0.02))
                received = await watch.get("/film", goes_on=False, Range="bytes=0-99")
                assert (received.status, received.body) == (206, FILM[:100])

        await asyncio.gather(*(client(seed) for seed in range(10)))


async def test_a23_a_kept_connection_breaks(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film", Range="bytes=0-99")).complete
        fake.misbehave(faults.reset_after(BEFORE_HEADER), key="film", method=None, times=1)
        received = await watch.get("/film", Range="bytes=0-99")
        assert (received.status, received.body) == (206, FILM[:100])


async def test_a24_pool_exhausted(fake: FakeS3) -> None:
    """50 clients that take nothing, and 2 origin connections. The one fault whose isolation is
    that others are refused in time: another object cannot be had without a connection.
    """
    async with watched(fake, origin={"max_connections": 2}) as watch:
        watch.put("film", FILM)
        clients = [await RawClient.connect(watch.app.port, receive_buffer=4096) for _ in range(50)]
        began = time.monotonic()
        for client in clients:
            await client.ask("/film")
        watch.asked += len(clients)
        statuses = []
        for client in clients:
            status, headers = await client.head()
            statuses.append(status)
            if status == 503:
                assert int(headers["retry-after"]) >= 1
                assert b"origin_busy" in (await client.receive())
        assert time.monotonic() - began < 2 * DEADLINES["pool_wait_seconds"] + SLACK_SECONDS
        assert statuses.count(200) == 2
        assert statuses.count(503) == 48
        refused = await watch.get("/probe.bin", goes_on=False)
        assert (refused.status, refused.error_code) == (503, "origin_busy")
        assert refused.seconds < DEADLINES["pool_wait_seconds"] + SLACK_SECONDS
        for client in clients:
            client.close()
