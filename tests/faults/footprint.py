"""What a server holds besides memory, and that it lets go of it (I3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from rangeserver.app import METRICS
from rangeserver.config import Config
from tests.exposition import scrape
from tests.fakes.s3 import FakeS3
from tests.support import RunningApp, open_descriptors, pool_waiters, running_app

_RUNNING: list[RunningApp] = []
"""All servers that are watched: descriptors are counted of the process."""


def _kept_open(app: RunningApp) -> int:
    """The idle connections of a server, and the files that its cache keeps open."""
    files = 0
    if app.cache is not None:
        # A directory holds itself, two in it, and its mark.
        files = len(app.cache.entries) + 4 * (app.cache.directory._held is not None)
    return app.idle + files


def kept_by_all() -> int:
    """The idle connections of all servers."""
    return sum(app.idle for app in _RUNNING)


@asynccontextmanager
async def counted(config: Config) -> AsyncIterator[RunningApp]:
    """The whole server, as one of those whose descriptors are known."""
    async with running_app(config) as app:
        _RUNNING.append(app)
        try:
            yield app
        finally:
            _RUNNING.remove(app)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the server holds. The fake's tasks and sockets are not counted, nor are the idle
    connections that the pool keeps for some seconds, nor the files that the cache keeps open.
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
    awaiting_room: int
    fills: int = 0
    filling: int = 0
    budget_taken: int = 0
    budget_waiters: int = 0
    nameless_files: int = 0

    @classmethod
    def of(cls, app: RunningApp, fake: FakeS3) -> Footprint:
        now = scrape(app.app[METRICS])
        cache = app.cache
        entries = list(cache.entries) if cache is not None else []
        of_cache = {}
        if cache is not None:
            of_cache = {
                "fills": len(cache.tasks),
                "filling": sum(len(entry.filling) for entry in entries),
                "budget_taken": cache.budget.taken,
                "budget_waiters": cache.budget.waiting,
                "nameless_files": len(list((cache.directory.path / "new").glob("*"))),
            }
        return cls(
            tasks=len(asyncio.all_tasks()) - fake.open_connections,
            descriptors=open_descriptors() - fake.open_connections - sum(map(_kept_open, _RUNNING)),
            connections=app.server.places.taken,
            exchanges=len(app.active),
            acquired=app.acquired,
            waiters=pool_waiters(app.pool),
            in_use=now("rangeserver_origin_connections", state="in_use"),
            waiting=now("rangeserver_origin_connections", state="waiting"),
            slots=app.s3.upstream.slots.in_use,
            questions=len(app.facts._in_flight),
            awaiting_room=len(app.room._waiting),
            **of_cache,
        )


async def settled(app: RunningApp, fake: FakeS3, baseline: Footprint, seconds: float) -> None:
    """Within ``seconds`` nothing more is held than at the beginning."""
    deadline = time.monotonic() + seconds
    while True:
        left = {
            name: value
            for name, value in asdict(Footprint.of(app, fake)).items()
            if value > getattr(baseline, name)  # what was on its way out is no base line
        }
        if not left:
            return
        assert time.monotonic() < deadline, f"{left} is left, {baseline} was there before"
        await asyncio.sleep(0.01)
