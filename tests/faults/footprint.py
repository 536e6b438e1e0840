"""What a server holds besides memory, and that it lets go of it (I3)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass

from rangeserver.app import METRICS
from tests.exposition import scrape
from tests.fakes.s3 import FakeS3
from tests.support import RunningApp, open_descriptors, pool_waiters


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the server holds. The fake's tasks and sockets are not counted, nor are the idle
    connections that the pool keeps for some seconds.
    """

    tasks: int
    descriptors: int
    connections: int
    exchanges: int
    acquired: int
    waiters: int
    in_use: float
    waiting: float
    slots: int
    questions: int

    @classmethod
    def of(cls, app: RunningApp, fake: FakeS3) -> Footprint:
        now = scrape(app.app[METRICS])
        return cls(
            tasks=len(asyncio.all_tasks()) - fake.open_connections,
            descriptors=open_descriptors() - app.idle - fake.open_connections,
            connections=app.server.open_connections,
            exchanges=len(app.active),
            acquired=app.acquired,
            waiters=pool_waiters(app.pool),
            in_use=now("rangeserver_origin_connections", state="in_use"),
            waiting=now("rangeserver_origin_connections", state="waiting"),
            slots=app.s3.upstream.slots.in_use,
            questions=len(app.facts._asked),
        )


async def settled(app: RunningApp, fake: FakeS3, baseline: Footprint, seconds: float) -> None:
    """Within ``seconds`` nothing more is held than at the beginning."""
    deadline = time.monotonic() + seconds
    while True:
        left = {
            name: value
            for name, value in asdict(Footprint.of(app, fake)).items()
            # Of descriptors there may be fewer: one that was on its way out is no base line.
            if value != (base := getattr(baseline, name))
            and not (name == "descriptors" and value < base)
        }
        if not left:
            return
        assert time.monotonic() < deadline, f"{left} is left, {baseline} was there before"
        await asyncio.sleep(0.01)
