"""An origin that asks for peace, closes connections or has too few: A10, A23 and A24."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from rangeserver.app import METRICS
from rangeserver.origin import slots
from rangeserver.origin.circuit import FAILURES_IN_A_ROW
from rangeserver.origin.retrying import MAX_TOKENS, PROGRESS_BYTES
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import DEADLINES, SHORT, Watch, watched
from tests.faults.leaks import PER_ROUND
from tests.faults.repeating import ALL_AT_ONCE, STALLING, refused, served
from tests.support import RawClient, eventually

pytestmark = pytest.mark.usefixtures("way")

FILM = random.Random(1).randbytes(8 << 20)
FILM_PART = 64 * 1024
REQUESTS = "rangeserver_origin_requests_total"
RETRIES = "rangeserver_origin_retries_total"
HEDGES = "rangeserver_origin_hedges_total"
CIRCUIT = "rangeserver_origin_circuit_open"
SLOW_DOWN = faults.error(503, "SlowDown")
SLACK_SECONDS = 1.0
"""For a busy machine."""


async def test_a10_slow_down(fake: FakeS3) -> None:
    """New requests are told to wait, and what runs goes on. Each is tried again as long as there
    are tokens for it; then the origin sees each request once, and no more than were made.
    """
    clients = 60
    async with watched(fake) as watch:
        watch.put("film", FILM[:PROGRESS_BYTES])  # no more, or it would earn tokens as it comes
        fake.misbehave(faults.stall_after(FILM_PART), key="film", times=1)
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
        fake.release()
        assert (await running).complete
        for number in range(4):
            watch.put(f"other{number}", FILM)
            assert (await watch.get(f"/other{number}")).status == 200
        watch.again(refused(503, "origin_throttled"), lambda _: SLOW_DOWN, **ALL_AT_ONCE)


async def test_a10_hedges_stop(fake: FakeS3) -> None:
    """An origin that asks for fewer requests gets no second ones, however late its answers are."""
    async with watched(fake, origin={"hedge_percent": 50.0}) as watch:
        watch.put("film", FILM)
        for number in range(200):  # until it is known what is late
            watch.put(f"known{number}", FILM[:9])
        for some in range(0, 200, 4):  # more at once would be late by themselves on a busy machine
            asked = (watch.get(f"/known{some + number}", goes_on=False) for number in range(4))
            await asyncio.gather(*asked)
        watch.put("late", FILM)
        fake.misbehave(faults.stall_after(BEFORE_HEADER), key="late", times=1)
        received = await watch.get("/late", goes_on=False, Range="bytes=0-9")
        assert (received.status, received.body) == (206, FILM[:10])
        assert watch.rose(HEDGES, result="won") >= 1
        fake.misbehave(faults.error(503, "SlowDown"), key="film", method=None, times=1)
        assert (await watch.get("/film", goes_on=False)).complete
        made = watch.rose(HEDGES, result="won") + watch.rose(HEDGES, result="lost")
        suppressed = watch.rose(HEDGES, result="suppressed")
        watch.renew("late")
        fake.misbehave(faults.stall_after(BEFORE_HEADER), key="late", method=None, times=1)
        running = asyncio.create_task(watch.get("/late", goes_on=False, Range="bytes=0-9"))
        await eventually(lambda: watch.rose(HEDGES, result="suppressed") > suppressed)
        assert not running.done()
        fake.release()
        received = await running
        assert (received.status, received.body) == (206, FILM[:10])
        assert watch.rose(HEDGES, result="won") + watch.rose(HEDGES, result="lost") == made
        watch.again(refused(503, "origin_throttled"), lambda _: SLOW_DOWN, **ALL_AT_ONCE)


async def test_a23_origin_closes_idle_connections() -> None:
    """A request may meet a connection that is being closed: nobody notices. 1000 requests, spaced
    so that many come just when the origin loses patience.
    """
    async with FakeS3(keep_alive_seconds=0.03) as fake, watched(fake) as watch:
        watch.put("film", FILM)

        async def client(seed: int) -> None:
            spaces = random.Random(seed)
            for _ in range(40):
                await asyncio.sleep(spaces.uniform(0.0, 0.06))
                received = await watch.get("/film", goes_on=False, Range="bytes=0-99")
                assert (received.status, received.body) == (206, FILM[:100])

        await asyncio.gather(*(client(seed) for seed in range(25)))
        spaces = random.Random(25)

        async def once(watch: Watch, key: str) -> None:
            await asyncio.sleep(spaces.uniform(0.0, 0.06))
            await served(watch, key)

        watch.again(once)


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
        for number in range(many):  # each once, and no second request of another
            fake.misbehave(
                faults.reset_after(BEFORE_HEADER), key=f"film{number}", method=None, times=1
            )
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
            await asyncio.sleep(STALLING["idle_seconds"] * 1.1)

        watch.again(once, origin=STALLING, at_once=PER_ROUND)


async def test_a24_pool_exhausted(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 clients that take nothing, and 2 origin connections. Whoever comes in the same moment is
    refused in time; later ones have the connection of one that has taken nothing for a while. A
    cache reads on for those who take nothing, and serves more of them.
    """
    monkeypatch.setattr(slots, "IDLE_SECONDS", 3600.0)
    async with watched(fake, origin={**SHORT, "max_connections": 2}) as watch:
        clients = [await RawClient.connect(watch.app.port, receive_buffer=4096) for _ in range(50)]
        for number in range(len(clients)):
            watch.put(f"film{number}", FILM)
        began = time.monotonic()
        for number, client in enumerate(clients):
            await client.ask(f"/film{number}")
        watch.asked += len(clients)
        statuses = []
        for client in clients:
            status, headers = await client.head()
            statuses.append(status)
            if status == 503:
                assert int(headers["retry-after"]) >= 1
                assert b"origin_busy" in (await client.receive())
        assert time.monotonic() - began < 2 * SHORT["pool_wait_seconds"] + SLACK_SECONDS
        assert statuses.count(200) + statuses.count(503) == 50
        assert statuses.count(200) >= 2
        if watch.app.cache is None:
            assert statuses.count(200) == 2
            refused = await watch.get("/probe.bin", goes_on=False)
            assert (refused.status, refused.error_code) == (503, "origin_busy")
            assert refused.seconds < SHORT["pool_wait_seconds"] + SLACK_SECONDS
            monkeypatch.setattr(slots, "IDLE_SECONDS", 0.0)
            await watch.probe()
            await watch.counts(1, "rangeserver_origin_recalls_total")
        for client in clients:
            client.close()
        watch.put("film", FILM)
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
