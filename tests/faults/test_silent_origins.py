"""An origin that does not answer, or cannot be found: A6, A7 and A9 of the fault catalogue."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import TCPConnector

from rangeserver.app import METRICS
from rangeserver.origin.circuit import FAILURES_IN_A_ROW, MAX_PAUSE_SECONDS, MIN_PAUSE_SECONDS
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import DEADLINES, SHORT, Watch, watched
from tests.faults.leaks import PER_ROUND
from tests.faults.names import Names
from tests.faults.repeating import ALL_AT_ONCE, SILENT, Once, refused, served
from tests.faults.responses import Received
from tests.support import close_idle_connections, eventually

pytestmark = pytest.mark.usefixtures("way")

FILM = random.Random(1).randbytes(8 << 20)
REQUESTS = "rangeserver_origin_requests_total"
CIRCUIT = "rangeserver_origin_circuit_open"
SILENCE = faults.stall_after(BEFORE_HEADER)
SLACK_SECONDS = 1.0
"""For a busy machine."""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a06_stall_before_the_header(fake: FakeS3, method: str) -> None:
    async with watched(fake, origin=SHORT) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(BEFORE_HEADER), key="film", method=None)
        running = asyncio.create_task(watch.get("/film", method=method))
        await eventually(lambda: fake.stalled >= 1)
        await watch.probe()
        received = await running
        assert received.status == 504
        if method == "GET":
            assert received.error_code == "origin_timeout"
        assert received.seconds < SHORT["response_seconds"] + SLACK_SECONDS
        hits = sum(1 for request in fake.requests if request.key == "film")
        assert hits <= DEADLINES["max_attempts"]
        once = refused(504, "origin_timeout", method=method)
        watch.again(
            once,
            lambda _: SILENCE,
            origin=SILENT,
            at_once=PER_ROUND,
            keeps_circuit_closed=True,
        )


@pytest.mark.long
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
        asked = (watch.get("/film", goes_on=False) for _ in range(FAILURES_IN_A_ROW + 1))
        for received in await asyncio.gather(*asked):
            assert (received.status, received.error_code) == (504, "origin_timeout")
        assert scrape(watch.app.app[METRICS])(CIRCUIT) == 0
        await watch.probe()

        async def once(watch: Watch, _: str) -> None:
            await refused(504, "origin_timeout")(watch, "repeated0")

        watch.again(once, lambda _: SILENCE, origin=SILENT, at_once=PER_ROUND)


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


def forget_names(watch: Watch) -> None:
    for connector in watch.app.pool.connectors:
        assert isinstance(connector, TCPConnector)
        connector.clear_dns_cache()


def named(fake: FakeS3) -> dict[str, str]:
    return {"endpoint_url": f"http://origin.test:{fake.port}"}


async def test_a09_no_such_name(fake: FakeS3, names: Names) -> None:
    names.address = None
    async with watched(fake, origin={**SHORT, **named(fake)}, reachable=False) as watch:
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (502, "origin_unreachable")
        assert received.seconds < SHORT["response_seconds"] + SLACK_SECONDS
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
    async with watched(fake, origin={**SHORT, **named(fake)}, reachable=False) as watch:
        watch.put("film", FILM)
        names.answering.clear()
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (504, "origin_timeout")
        assert received.seconds < SHORT["response_seconds"] + SLACK_SECONDS
        names.answering.set()  # a thread in getaddrinfo cannot be stopped: it is waited for
        await served_again(watch)
        everybody = asyncio.Barrier(PER_ROUND)

        async def once(watch: Watch, key: str) -> None:
            names.answering.clear()
            forget_names(watch)
            await refused(504, "origin_timeout")(watch, key)
            await everybody.wait()
            names.answering.set()

        watch.again(once, origin=SILENT, at_once=PER_ROUND, keeps_circuit_closed=True)


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
            assert moved.requests

    return once
