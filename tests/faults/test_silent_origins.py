"""An origin that does not answer, or asks for peace: A6, A7, A9, A10, A23, A24."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import TCPConnector
from aiohttp.abc import ResolveResult
from aiohttp.resolver import DefaultResolver

from rangeserver.app import METRICS
from rangeserver.origin.circuit import FAILURES_IN_A_ROW, MAX_PAUSE_SECONDS, MIN_PAUSE_SECONDS
from rangeserver.origin.retrying import MAX_TOKENS
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import DEADLINES, Watch, watched
from tests.faults.leaks import PER_ROUND
from tests.faults.repeating import ALL_AT_ONCE, IMPATIENT, Once, refused, served
from tests.faults.responses import Received
from tests.support import RawClient, close_idle_connections, eventually

MIB = 1 << 20
FILM = random.Random(1).randbytes(8 * MIB)
FILM_PART = 64 * 1024
REQUESTS = "rangeserver_origin_requests_total"
RETRIES = "rangeserver_origin_retries_total"
HEDGES = "rangeserver_origin_hedges_total"
CIRCUIT = "rangeserver_origin_circuit_open"
SILENCE = faults.stall_after(BEFORE_HEADER)
SLOW_DOWN = faults.error(503, "SlowDown")
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
        once = refused(504, "origin_timeout", method=method)
        watch.again(once, lambda _: SILENCE, keeps_circuit_closed=True, **ALL_AT_ONCE)


async def test_a06_repetitions(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer of them: each waits for its deadline, for the circuit stays closed here."""
    monkeypatch.setattr("rangeserver.origin.circuit.FAILURES_IN_A_ROW", 10**6)
    brief = {"response_seconds": 0.25, "max_attempts": 1}
    async with watched(fake, origin=brief) as watch:
        await watch.leaves_no_memory(refused(504, "origin_timeout"), lambda _: SILENCE, times=100)


async def test_a07_refused_connections(fake: FakeS3) -> None:
    """The first to ask is told within a second; then nobody waits, and the origin is asked once in
    a while, until it is back.
    """
    async with watched(fake) as watch:
        watch.put("film", FILM)
        await fake.refuse()
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (502, "origin_unreachable")
        assert received.seconds < 1
        assert watch.rose(REQUESTS, outcome="unreachable") == DEADLINES["max_attempts"]
        opened_after = time.monotonic()
        async with asyncio.timeout(10):
            while watch.rose(REQUESTS) < FAILURES_IN_A_ROW:
                opened_after = time.monotonic()
                received = await watch.get("/film", goes_on=False)
        suspended(received)
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 1
        assert watch.rose(REQUESTS) == FAILURES_IN_A_ROW
        for _ in range(50):
            suspended(await watch.get("/film", goes_on=False))
        let_through = (time.monotonic() - opened_after) // MIN_PAUSE_SECONDS
        assert watch.rose(REQUESTS) <= FAILURES_IN_A_ROW + let_through
        assert watch.rose(REQUESTS) == watch.rose(REQUESTS, outcome="unreachable")
        await fake.listen()
        await served_again(watch)
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 0
        watch.again(
            refused(502, "origin_unreachable"),
            during=refusing(fake),
            keeps_circuit_closed=True,
            others_are_served=False,
            **ALL_AT_ONCE,
        )


@asynccontextmanager
async def refusing(fake: FakeS3) -> AsyncIterator[None]:
    await fake.refuse()
    try:
        yield
    finally:
        await fake.listen()


def suspended(received: Received) -> None:
    """It was answered at once, and told when to come back."""
    if received.status == 502:  # the one that was let through to find out
        assert received.error_code == "origin_unreachable"
        return
    assert (received.status, received.error_code) == (503, "origin_suspended")
    assert 1 <= int(received.headers["retry-after"]) <= 1 + MAX_PAUSE_SECONDS
    assert received.seconds < SLACK_SECONDS


async def served_again(watch: Watch) -> None:
    """The server finds out by itself that the origin is back."""
    deadline = time.monotonic() + 10
    while (await watch.get("/film", goes_on=False)).status != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a07_one_silent_object_opens_no_circuit(fake: FakeS3) -> None:
    """However often it is asked for; many of them would."""
    async with watched(fake, origin={"response_seconds": 0.25, "max_attempts": 1}) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(BEFORE_HEADER), key="film")
        for _ in range(FAILURES_IN_A_ROW + 1):
            received = await watch.get("/film", goes_on=False)
            assert (received.status, received.error_code) == (504, "origin_timeout")
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 0
        await watch.probe()

        async def once(watch: Watch, _: str) -> None:
            await refused(504, "origin_timeout")(watch, "repeated0")

        watch.again(once, lambda _: SILENCE, **ALL_AT_ONCE)


class Names:
    """A resolver of one name, whose answers a test decides."""

    def __init__(self) -> None:
        self.address: str | None = "127.0.0.1"
        self.answering = asyncio.Event()
        self.answering.set()

    @asynccontextmanager
    async def unknown(self) -> AsyncIterator[None]:
        """There is no such name."""
        self.address = None
        try:
            yield
        finally:
            self.address = "127.0.0.1"

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


def forget_names(watch: Watch) -> None:
    for connector in watch.app.pool.connectors:
        assert isinstance(connector, TCPConnector)
        connector.clear_dns_cache()


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
        watch.again(
            refused(502, "origin_unreachable"),
            during=names.unknown(),
            keeps_circuit_closed=True,
            **ALL_AT_ONCE,
        )


async def test_a09_slow_name(fake: FakeS3, names: Names) -> None:
    async with watched(fake, origin=named(fake), reachable=False) as watch:
        watch.put("film", FILM)
        names.answering.clear()
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (504, "origin_timeout")
        assert received.seconds < DEADLINES["response_seconds"] + SLACK_SECONDS
        names.answering.set()  # a thread in getaddrinfo cannot be stopped: it is waited for
        await served_again(watch)
        everybody = asyncio.Barrier(PER_ROUND)

        async def once(watch: Watch, key: str) -> None:
            names.answering.clear()
            forget_names(watch)
            await refused(504, "origin_timeout")(watch, key)
            await everybody.wait()
            names.answering.set()

        watch.again(once, keeps_circuit_closed=True, **ALL_AT_ONCE)


async def test_a09_changed_address(fake: FakeS3, names: Names) -> None:
    """An address is believed for ten seconds at most, which here are made to pass quickly."""
    async with watched(fake, origin=named(fake)) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film")).complete
        async with FakeS3(host="127.0.0.2", port=fake.port) as moved:
            moved.put("film", FILM)
            moved.put("probe.bin", bytes(range(256)) * 16)
            (connector,) = watch.app.pool.connectors
            assert isinstance(connector, TCPConnector)
            table = connector._cached_hosts
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
        # One by one: the address is the same for everybody.
        watch.again(moved_each_time(names), at_once=1, others_are_served=False)


def moved_each_time(names: Names) -> Once[Watch]:
    """Ask while the name is that of a host which has just come up, and when it is back."""

    async def once(watch: Watch, key: str) -> None:
        async with FakeS3(host="127.0.0.2", port=watch.fake.port) as moved:
            moved.put(key, watch.versions[watch.fake.etag(key)])
            for origin in (moved, watch.fake):
                names.address = origin.host
                close_idle_connections(watch.app.pool)
                await served(watch, key)
            assert len(moved.requests) == 1

    return once


async def test_a10_slow_down(fake: FakeS3) -> None:
    """New requests are told to wait, and what runs goes on. Each is tried again as long as there
    are tokens for it; then the origin sees each request once, and no more than were made.
    """
    clients = 60
    async with watched(fake, origin={"response_seconds": 5.0}) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.drip(FILM_PART, 0.02), key="film", times=1)
        running = asyncio.create_task(watch.get("/film", goes_on=False))
        await eventually(lambda: len(fake.requests) == 1)
        fake.misbehave(faults.error(503, "SlowDown"), method=None)

        async def everybody() -> int:
            """All ask at once, each for another object; how often the origin was asked."""
            before = len(fake.requests)
            asked = (watch.get(f"/other{number}", goes_on=False) for number in range(clients))
            for received in await asyncio.gather(*asked):
                assert (received.status, received.error_code) == (503, "origin_throttled")
                assert int(received.headers["retry-after"]) >= 1
            return len(fake.requests) - before

        assert clients * (DEADLINES["max_attempts"] - 1) > MAX_TOKENS
        assert await everybody() == clients + MAX_TOKENS
        assert not running.done()
        await watch.counts(MAX_TOKENS, RETRIES, reason="throttled")
        for _ in range(4):
            assert await everybody() == clients
        assert watch.rose(RETRIES) == MAX_TOKENS
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 0  # it answers, after all
        fake.behave()
        assert (await running).complete
        for number in range(4):
            watch.put(f"other{number}", FILM)
            assert (await watch.get(f"/other{number}")).status == 200
        watch.again(refused(503, "origin_throttled"), lambda _: SLOW_DOWN, **ALL_AT_ONCE)


async def test_a10_hedges_stop(fake: FakeS3) -> None:
    """An origin that asks for fewer requests gets no second ones, however late its answers are."""
    async with watched(fake, origin={"hedge_percent": 50.0}) as watch:
        watch.put("film", FILM)
        for _ in range(4):  # until it is known what is late
            await asyncio.gather(
                *(watch.get("/film", goes_on=False, Range="bytes=0-9") for _ in range(50))
            )
        watch.put("late", FILM)
        fake.misbehave(faults.stall_after(BEFORE_HEADER), key="late", times=1)
        received = await watch.get("/late", goes_on=False, Range="bytes=0-9")
        assert (received.status, received.body) == (206, FILM[:10])
        assert received.seconds < DEADLINES["idle_seconds"]
        assert watch.rose(HEDGES, result="won") >= 1
        fake.misbehave(faults.error(503, "SlowDown"), key="film", times=1)
        assert (await watch.get("/film", goes_on=False)).complete
        made = watch.rose(HEDGES, result="won") + watch.rose(HEDGES, result="lost")
        fake.misbehave(faults.stall_after(BEFORE_HEADER), key="late", times=1)
        received = await watch.get("/late", goes_on=False, Range="bytes=0-9")
        assert (received.status, received.body) == (206, FILM[:10])
        assert received.seconds >= DEADLINES["idle_seconds"]
        assert watch.rose(HEDGES, result="won") + watch.rose(HEDGES, result="lost") == made
        assert watch.rose(HEDGES, result="suppressed") >= 1
        watch.again(refused(503, "origin_throttled"), lambda _: SLOW_DOWN, **ALL_AT_ONCE)


async def test_a23_origin_closes_idle_connections() -> None:
    """A request may meet a connection that is being closed: nobody notices. 1000 requests, spaced
    so that many come just when the origin loses patience.
    """
    async with FakeS3(keep_alive_seconds=0.01) as fake, watched(fake) as watch:
        watch.put("film", FILM)

        async def client(seed: int) -> None:
            spaces = random.Random(seed)
            for _ in range(40):
                await asyncio.sleep(spaces.uniform(0.0, 0.02))
                received = await watch.get("/film", goes_on=False, Range="bytes=0-99")
                assert (received.status, received.body) == (206, FILM[:100])

        await asyncio.gather(*(client(seed) for seed in range(25)))
        watch.again(served)


async def test_a23_a_kept_connection_breaks(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film", Range="bytes=0-99")).complete
        fake.misbehave(faults.reset_after(BEFORE_HEADER), key="film", method=None, times=1)
        received = await watch.get("/film", Range="bytes=0-99")
        assert (received.status, received.body) == (206, FILM[:100])
        watch.again(served, lambda _: faults.every_other(faults.reset_after(BEFORE_HEADER)))


async def test_a23_many_kept_connections_break_at_once(fake: FakeS3) -> None:
    """That is no sign of an origin that is down: each request is repeated over a new one."""
    many = 4 * FAILURES_IN_A_ROW
    async with watched(fake) as watch:
        for number in range(many):
            watch.put(f"film{number}", FILM[:1000])

        async def everybody() -> None:
            asked = (watch.get(f"/film{number}", goes_on=False) for number in range(many))
            for received in await asyncio.gather(*asked):
                assert (received.status, received.body) == (200, FILM[:1000])

        fake.misbehave(faults.stall_after(10), times=many)
        first = asyncio.create_task(everybody())
        await eventually(lambda: fake.stalled == many)
        fake.release()
        await first
        await eventually(lambda: watch.app.idle >= many)
        fake.requests.clear()
        fake.misbehave(faults.reset_after(BEFORE_HEADER), times=many)
        await everybody()
        assert len(fake.requests) == 2 * many
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 0
        dropped = faults.reset_after(BEFORE_HEADER)
        watch.again(
            served,
            lambda _: faults.every_other(dropped),
            at_once=PER_ROUND,
            keeps_circuit_closed=True,
        )


async def test_a07_connections_that_are_taken_and_dropped(fake: FakeS3) -> None:
    """Whether kept or new: that is an origin which is down."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.reset_after(BEFORE_HEADER), method=None)
        received = await watch.get("/film", goes_on=False)
        for number in range(FAILURES_IN_A_ROW):
            if received.status == 503:
                break
            assert (received.status, received.error_code) == (502, "origin_unreachable")
            received = await watch.get(f"/film{number}", goes_on=False)
        suspended(received)
        assert received.status == 503
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 1
        fake.behave()
        await served_again(watch)
        watch.again(
            refused(502, "origin_unreachable"),
            lambda _: faults.reset_after(BEFORE_HEADER),
            keeps_circuit_closed=True,
            **ALL_AT_ONCE,
        )


async def test_a23_a_connection_idle_for_long(fake: FakeS3) -> None:
    """A read deadline measures the origin, not how long a connection is not needed."""
    patient = {"idle_seconds": 0.3, "max_attempts": 1, "max_resumes": 0}
    async with watched(fake, origin=patient) as watch:
        watch.put("film", FILM)
        for _ in range(4):
            assert (await watch.get("/film", goes_on=False)).status == 200
            assert watch.app.idle
            await asyncio.sleep(patient["idle_seconds"] * 1.1)
        assert watch.rose(REQUESTS, outcome="ok") == watch.rose(REQUESTS)

        async def once(watch: Watch, key: str) -> None:
            await served(watch, key)
            await asyncio.sleep(IMPATIENT["idle_seconds"] * 1.1)

        watch.again(once, **ALL_AT_ONCE)


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
        narrow = {"max_connections": 2, "pool_wait_seconds": 0.1}
        watch.again(taking_nothing, origin=narrow, at_once=PER_ROUND, others_are_served=False)


async def taking_nothing(watch: Watch, _: str) -> None:
    """Be one of many who ask for a film, and stay if it is given."""
    watch.asked += 1
    async with await RawClient.connect(watch.app.port, receive_buffer=4096) as client:
        await client.ask("/film")
        status = (await client.head())[0]
        if status == 200:
            await asyncio.sleep(0.3)  # until the others were refused
        else:
            assert status == 503
            assert b"origin_busy" in await client.receive()
