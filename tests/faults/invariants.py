"""What must hold during and after every fault, whatever the fault is.

I1  the bytes of a response are a prefix of one version of its object, the one its ETag names,
    and all that was promised exactly when it ended cleanly;
I2  no response ends cleanly before its promised end (the connection takes another request);
I3  two seconds later nothing is held: tasks, descriptors, connections, slots, waiters, questions
    for facts, and of the cache fills, bytes of its budget and files without a name;
I4  counters rose by exactly what happened, and every response is one access line under its id;
I5  no secret, no traceback and no error that nobody handled, in the log or in a response;
I6  another object is served within a second, during the fault and after it;
I7  repetitions leave no memory behind (:mod:`tests.faults.memory`).

:func:`watched` checks I3, I5, I6 and the second half of I4 when it is left; the rest is checked
by the methods with which a test asks.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from rangeserver.app import METRICS
from rangeserver.cache.cache import Cache
from rangeserver.config import Config
from rangeserver.web.sendfile import ROOM
from tests.exposition import Scrape, scrape
from tests.fakes.faults import Fault
from tests.fakes.s3 import FakeS3
from tests.faults.logs import LogWatch, keeping_no_lines, reading_along
from tests.faults.memory import AT_ONCE, memory_stays
from tests.support import (
    RawClient,
    RawResponse,
    RunningApp,
    config_for,
    eventually,
    open_descriptors,
    pool_waiters,
    running_app,
)

SETTLED_SECONDS = 2.0
PROBE_SECONDS = 1.0

_PROBE_KEY = "probe.bin"
_PROBE_BODY = bytes(range(256)) * 16
_REPEATED = bytes(range(251)) * 8

# Quick enough to test, slow enough for a busy machine. Hedges would blur exact counts of requests;
# so would facts that are believed for a while, and config_for() has none believed.
DEADLINES: dict[str, Any] = {
    "max_attempts": 3,
    "max_resumes": 3,
    "connect_seconds": 0.5,
    "pool_wait_seconds": 0.5,
    "response_seconds": 1.5,
    "idle_seconds": 0.4,
    "hedge_percent": 0.0,
}


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
        of_cache = {}
        if cache is not None:
            of_cache = {
                "fills": len(cache.tasks),
                "filling": sum(len(entry.filling) for entry in cache._entries.values()),
                "budget_taken": cache.budget.taken,
                "budget_waiters": len(cache.budget._waiting),
                "nameless_files": len(list((cache.directory.path / "new").glob("*"))),
            }
        return cls(
            tasks=len(asyncio.all_tasks()) - fake.open_connections,
            descriptors=open_descriptors() - fake.open_connections - sum(map(_kept_open, _RUNNING)),
            connections=app.server.open_connections,
            exchanges=len(app.active),
            acquired=app.acquired,
            waiters=pool_waiters(app.pool),
            in_use=now("rangeserver_origin_connections", state="in_use"),
            waiting=now("rangeserver_origin_connections", state="waiting"),
            slots=app.s3.upstream.slots.in_use,
            questions=len(app.facts._asked),
            awaiting_room=len(app.app[ROOM]._waiting),
            **of_cache,
        )


@dataclass(slots=True, eq=False)
class Watch:
    """A running server, its origin, and what was seen of both."""

    app: RunningApp
    fake: FakeS3
    log: LogWatch
    before: Scrape
    versions: dict[str, bytes] = field(default_factory=dict)
    asked: int = 0

    @property
    def cache(self) -> Cache:
        """The cache of the server, which has one."""
        assert self.app.cache is not None
        return self.app.cache

    def put(self, key: str, body: bytes, **headers: str) -> str:
        """Store a version of an object, and remember it by its ETag, which is returned."""
        self.fake.put(key, body, **headers)
        etag = self.fake.etag(key)
        self.versions[etag] = body
        return etag

    async def get(
        self, target: str, *, method: str = "GET", goes_on: bool = True, **headers: str
    ) -> Received:
        """Ask on a connection of its own, and check what comes (I1, I2, half of I4, I5).

        ``goes_on``: prove a clean end by asking for another object on the same connection.
        """
        self.asked += 1
        asked = time.monotonic()
        async with await RawClient.connect(self.app.port) as client:
            response = await client.get(target, method=method, **headers)
            seconds = time.monotonic() - asked
            self._check(response, method)
            if response.complete and goes_on:
                self.asked += 1
                again = await client.get(f"/{_PROBE_KEY}")
                assert (again.status, again.body) == (200, _PROBE_BODY)
            received = Received(response, seconds, client.was_reset)
        await eventually(lambda: received.request_id in self.log.access, SETTLED_SECONDS)
        line = self.log.access.pop(received.request_id)
        assert line["status"] == response.status
        assert (line["outcome"] == "complete") == response.complete, line
        return received

    async def probe(self) -> None:
        """I6: another object is served, and soon."""
        received = await self.get(f"/{_PROBE_KEY}", goes_on=False)
        assert (received.status, received.body) == (200, _PROBE_BODY)
        assert received.seconds < PROBE_SECONDS

    def rose(self, name: str, **labels: str) -> float:
        """By how much a series has risen; without labels, all series of the name together."""
        now = scrape(self.app.app[METRICS])
        if labels:
            return now(name, **labels) - self.before(name, **labels)
        return sum(now.named(name).values()) - sum(self.before.named(name).values())

    async def counts(self, expected: float, name: str, **labels: str) -> None:
        """I4: a counter has risen by just this much."""
        await eventually(lambda: self.rose(name, **labels) >= expected, SETTLED_SECONDS)
        assert self.rose(name, **labels) == expected, f"{name}{labels}"

    async def leaves_no_memory(
        self, once: Callable[[str], Awaitable[object]], make: Callable[[], Fault], times: int = 1000
    ) -> None:
        """I7: with the fault that ``make`` makes for each key, asked for by one at a time."""
        keys = [f"repeated{number}" for number in range(AT_ONCE)]
        for key in keys:
            self.put(key, _REPEATED)
            self.fake.misbehave(make(), key=key)

        async def on_a_free_key() -> None:
            key = keys.pop()
            await once(key)
            keys.append(key)
            if len(self.fake.requests) > 1000:
                self.fake.requests.clear()

        with keeping_no_lines(self.log):
            await memory_stays(on_a_free_key, times)

    def _check(self, response: RawResponse, method: str) -> None:
        headers = response.headers
        self.log.check(repr(headers))
        if response.status in {200, 206}:
            assert method == "HEAD" or self._is_of_one_version(response), headers
        elif method != "HEAD" and response.body:
            error = json.loads(response.body)["error"]
            assert error["request_id"] == headers["x-request-id"]
            text = response.body.decode()
            self.log.check(text)
            assert self.fake.bucket not in text

    def _is_of_one_version(self, response: RawResponse) -> bool:
        version = self.versions[response.headers["etag"]]
        start, stop = 0, len(version)
        if response.status == 206:
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers["content-range"])
            assert found is not None
            start, stop = int(found[1]), int(found[2]) + 1
            assert int(found[3]) == len(version)
        assert int(response.headers["content-length"]) == stop - start
        return version[start : start + len(response.body)] == response.body


@dataclass(frozen=True, slots=True)
class Received:
    """A response that passed, how long it took, and whether its connection ended in an RST."""

    response: RawResponse
    seconds: float
    was_reset: bool

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers

    @property
    def body(self) -> bytes:
        return self.response.body

    @property
    def complete(self) -> bool:
        return self.response.complete

    @property
    def request_id(self) -> str:
        return self.response.headers["x-request-id"]

    @property
    def error_code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


@asynccontextmanager
async def watched(
    fake: FakeS3,
    *,
    origin: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
    admin: bool = False,
    reachable: bool = True,
) -> AsyncIterator[Watch]:
    """The server over ``fake``; on leaving, the fault over, the invariants are checked.

    ``cache``: with its cache on, in a directory of its own if these settings name none.
    ``reachable``: the origin serves at the beginning, so that the server is warm when its
    footprint is taken, and at the end.
    """
    fake.put(_PROBE_KEY, _PROBE_BODY)
    with ExitStack() as stack:
        if cache is not None:
            directory = stack.enter_context(TemporaryDirectory(prefix="rangeserver-"))
            cache = {"enabled": True, "directory": directory, "min_free_bytes": 0, **cache}
        config = config_for(
            fake,
            server=server,
            origin={**DEADLINES, **(origin or {})},
            cache=cache,
            admin=admin,
        )
        async with _watched(fake, config, reachable=reachable) as watch:
            yield watch


_RUNNING: list[RunningApp] = []
"""All servers that are watched: descriptors are counted of the process."""


def _kept_open(app: RunningApp) -> int:
    """The idle connections of a server, and the files that its cache keeps open."""
    files = 0
    if app.cache is not None:
        files = len(app.cache._entries) + (app.cache.directory._mark >= 0)
    return app.idle + files


@asynccontextmanager
async def _counted(config: Config) -> AsyncIterator[RunningApp]:
    async with running_app(config) as app:
        _RUNNING.append(app)
        try:
            yield app
        finally:
            _RUNNING.remove(app)


@asynccontextmanager
async def _watched(fake: FakeS3, config: Config, *, reachable: bool) -> AsyncIterator[Watch]:
    with reading_along() as log:
        async with _counted(config) as app:
            watch = Watch(app, fake, log, scrape(app.app[METRICS]))
            watch.versions[fake.etag(_PROBE_KEY)] = _PROBE_BODY
            if reachable:
                await watch.probe()
            await eventually(lambda: not app.server.open_connections, SETTLED_SECONDS)
            baseline = Footprint.of(app, fake)
            watch.before, watch.asked = scrape(app.app[METRICS]), 0
            fake.requests.clear()
            yield watch
            fake.behave()
            if reachable:
                await watch.probe()
            await _settled(app, fake, baseline)
            counted = watch.rose("rangeserver_responses_total")
            assert counted == watch.asked, f"{counted:g} responses counted of {watch.asked}"
        gc.collect()
    assert not log.forbidden, log.forbidden


async def _settled(app: RunningApp, fake: FakeS3, baseline: Footprint) -> None:
    """I3."""
    deadline = time.monotonic() + SETTLED_SECONDS
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
