"""Clients that leave, by the hundred and at any moment, leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from rangeserver.web.exchange import Exchange, Outcome
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.support import (
    RawClient,
    RunningApp,
    config_for,
    eventually,
    open_descriptors,
    running_app,
)

pytestmark = pytest.mark.loops("uvloop", "asyncio")

CLIENTS = 500
AT_ONCE = 25
SETTLED_SECONDS = 5.0
BODY = random.Random(5).randbytes(1_000_000)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the server holds. The fake's tasks and sockets, one a connection, are not counted,
    nor are the sockets of idle origin connections, which the pool keeps for some seconds.
    """

    tasks: int
    descriptors: int
    connections: int
    exchanges: int
    acquired: int

    def within(self, baseline: Footprint) -> bool:
        """Whether it is as it was at the beginning."""
        fewer = self.descriptors <= baseline.descriptors
        return fewer and replace(self, descriptors=baseline.descriptors) == baseline

    @classmethod
    def of(cls, app: RunningApp, fake: FakeS3) -> Footprint:
        return cls(
            tasks=len(asyncio.all_tasks()) - fake.open_connections,
            descriptors=open_descriptors() - 2 * fake.open_connections,
            connections=app.server.places.taken,
            exchanges=len(app.active),
            acquired=app.acquired,
        )


async def settled(app: RunningApp, fake: FakeS3, baseline: Footprint) -> None:
    """Wait until the server holds no more than at the beginning.

    There may be fewer descriptors: a server that other tests of this process share lets go of
    its idle origin connections in these seconds.
    """
    deadline = time.monotonic() + SETTLED_SECONDS
    while not (now := Footprint.of(app, fake)).within(baseline):
        assert time.monotonic() < deadline, f"{now} is left, {baseline} was there before"
        await asyncio.sleep(0.01)
    assert fake.stalled == 0
    await eventually(lambda: fake.open_connections == app.idle)


async def first_footprint(app: RunningApp, fake: FakeS3) -> Footprint:
    """The footprint once everything made on first use is there, and nobody is."""
    async with await RawClient.connect(app.port) as client:
        assert (await client.get("/a.mp4", Range="bytes=0-9")).body == BODY[:10]
    await eventually(lambda: app.server.places.taken == 0)
    gc.collect()
    return Footprint.of(app, fake)


async def visit(port: int, target: str, take: int, leave: Callable[[RawClient], None]) -> None:
    """Ask, take so many bytes of the response, header included, and leave."""
    client = await RawClient.connect(port)
    try:
        await client.ask(target, Connection="close")  # it may want more than there is
        while take > 0:
            data = await client.receive(min(take, 65536))
            if not data:
                break
            take -= len(data)
    finally:
        leave(client)


@dataclass(frozen=True, slots=True)
class Aim:
    """A target, and how much of its response a client takes at most before it leaves."""

    target: str
    most: int


async def visits(app: RunningApp, aims: list[Aim], seed: int) -> None:
    """Let all clients come and go, some at a time."""
    dice = random.Random(seed)
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(aim: Aim, take: int, leave: Callable[[RawClient], None]) -> None:
        async with turns:
            await visit(app.port, aim.target, take, leave)

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            aim = dice.choice(aims)
            leave = dice.choice([RawClient.close, RawClient.reset])
            group.create_task(one(aim, dice.randint(0, aim.most), leave))


@pytest.mark.fault("B1")
async def test_clients_that_leave_anywhere_leave_nothing_behind(
    fake: FakeS3, finished: list[Exchange]
) -> None:
    fake.put("a.mp4", BODY)
    # The header is about 400 bytes: some leave in it, some after the last byte.
    aims = [Aim("/a.mp4", len(BODY) + 600), Aim("/a.mp4", 600), Aim("/nothing", 300)]
    async with running_app(config_for(fake), observers=[finished.append]) as app:
        baseline = await first_footprint(app, fake)
        await visits(app, aims, seed=6)
        await settled(app, fake, baseline)
    outcomes = {line.outcome for line in finished}
    assert outcomes == {Outcome.COMPLETE, Outcome.CLIENT_GONE}
    assert all(line.bytes_sent <= line.bytes_promised for line in finished)


async def test_clients_that_leave_a_stalled_origin_leave_nothing_behind(
    fake: FakeS3, finished: list[Exchange]
) -> None:
    aims = []
    for offset, most in ((BEFORE_HEADER, 0), (0, 0), (1, 1), (100_000, 100_000)):
        key = f"stalled-{offset}"
        fake.put(key, BODY)
        fake.misbehave(faults.stall_after(offset), key=key)
        aims.append(Aim(f"/{key}", most))
    fake.put("a.mp4", BODY)
    async with running_app(config_for(fake), observers=[finished.append]) as app:
        baseline = await first_footprint(app, fake)
        await visits(app, aims, seed=7)
        await settled(app, fake, baseline)
    stalled = [line for line in finished if line.key.startswith("stalled")]
    assert {line.outcome for line in stalled} == {Outcome.CLIENT_GONE}


async def test_clients_that_leave_a_failing_origin_leave_nothing_behind(fake: FakeS3) -> None:
    aims = []
    for number, fault in enumerate(
        (
            faults.fin_after(BEFORE_HEADER),
            faults.reset_after(50_000),
            faults.all_of(faults.body_length(-1), faults.until_close),
            faults.header("Last-Modified", "lately"),
            faults.whole_object,
            faults.error(503, "SlowDown"),
        )
    ):
        fake.put(f"bad-{number}", BODY)
        fake.misbehave(fault, key=f"bad-{number}")
        aims.append(Aim(f"/bad-{number}", 200_000))
    fake.put("a.mp4", BODY)
    async with running_app(config_for(fake)) as app:
        baseline = await first_footprint(app, fake)
        await visits(app, aims, seed=8)
        await settled(app, fake, baseline)


async def test_clients_that_only_connect_leave_nothing_behind(fake: FakeS3) -> None:
    fake.put("a.mp4", BODY)
    async with running_app(config_for(fake)) as app:
        baseline = await first_footprint(app, fake)
        for number in range(100):
            client = await RawClient.connect(app.port)
            await client.send(b"GET /a.mp4 HTTP/1.1\r\nHost: a"[: number % 30])
            (client.close if number % 2 else client.reset)()
        await settled(app, fake, baseline)
