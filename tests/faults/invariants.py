"""What must hold during and after every fault, whatever the fault is.

I1  the bytes of a response are a prefix of one version of its object, the one its ETag names,
    and all that was promised exactly when it ended cleanly;
I2  no response ends cleanly before its promised end (the connection takes another request);
I3  two seconds later nothing is held: tasks, descriptors, connections, slots, waiters, questions
    for facts, and of the cache fills, bytes of its budget and files without a name;
I4  counters rose by exactly what happened, and every response is one access line under its id;
I5  no secret, no traceback and no error that nobody handled, in the log or in a response;
I6  another object is served within a second, during the fault and after it;
I7  repetitions leave no memory behind (:mod:`tests.faults.leaks`, :mod:`tests.faults.memory`).

:func:`watched` checks I3, I5, I6, I7 and the second half of I4 when it is left; the rest is
checked by the methods with which a test asks. For I7 a test says how its fault is repeated
(:meth:`Watch.again`), and one that does not fails. For servers that are processes of their own
there is :mod:`tests.faults.processes`.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from rangeserver.app import METRICS
from rangeserver.cache.cache import Cache
from rangeserver.origin.retrying import MAX_TOKENS, TOKENS_PER_SUCCESS
from tests.amount import ALL
from tests.exposition import Scrape, scrape
from tests.fakes.s3 import FakeS3
from tests.faults.footprint import Footprint, counted, kept_by_all, settled
from tests.faults.leaks import PER_ROUND, freeze, leaves_nothing
from tests.faults.logs import LogWatch, keeping_no_lines, reading_along
from tests.faults.memory import AT_ONCE, memory_stays
from tests.faults.repeating import FaultFor, Once, Repetition
from tests.faults.responses import Received, check
from tests.support import (
    RawClient,
    RunningApp,
    close_idle_connections,
    config_for,
    eventually,
)

SETTLED_SECONDS = 2.0
PROBE_SECONDS = 1.0

USUALLY: dict[str, Mapping[str, Any] | None] = {"cache": None}
"""Of a server that is not said to have a cache; set by the fixture ``way``."""

PROBE_KEY = "probe.bin"
PROBE_BODY = bytes(range(256)) * 16
_REPEATED = bytes(range(251)) * 8

# So patient that a busy machine is never late. Hedges would blur exact counts of requests; so would
# facts that are believed for a while, and config_for() has none believed.
DEADLINES: dict[str, Any] = {
    "max_attempts": 3,
    "max_resumes": 3,
    "connect_seconds": 30.0,
    "pool_wait_seconds": 30.0,
    "response_seconds": 30.0,
    "idle_seconds": 30.0,
    "hedge_percent": 0.0,
}

SHORT: dict[str, Any] = {
    "connect_seconds": 0.5,
    "pool_wait_seconds": 0.5,
    "response_seconds": 1.5,
    "idle_seconds": 0.4,
}
"""For an origin that is silent: quick enough to test. Where an answer is to come in spite of it,
the test must not mind that more are late on a busy machine."""


@dataclass(slots=True, eq=False)
class Watch:
    """A running server, its origin, and what was seen of both."""

    app: RunningApp
    fake: FakeS3
    log: LogWatch
    before: Scrape
    baseline: Footprint
    reachable: bool
    versions: dict[str, bytes] = field(default_factory=dict, repr=False)
    asked: int = 0
    repetition: Repetition[Watch] | None = None

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
            check(response, self.versions, bucket=self.fake.bucket, method=method)
            if response.complete and goes_on:
                self.asked += 1
                again = await client.get(f"/{PROBE_KEY}")
                assert (again.status, again.body) == (200, PROBE_BODY)
            received = Received(response, seconds, client.was_reset)
        await eventually(lambda: received.request_id in self.log.access, SETTLED_SECONDS)
        line = self.log.access.pop(received.request_id)
        assert line["status"] == response.status
        assert (line["outcome"] == "complete") == response.complete, line
        return received

    async def probe(self) -> None:
        """I6: another object is served, and soon."""
        received = await self.get(f"/{PROBE_KEY}", goes_on=False)
        assert (received.status, received.body) == (200, PROBE_BODY)
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

    def again(self, once: Once[Watch], fault: FaultFor | None = None, **how: Any) -> None:
        """Say how the fault is repeated when the case is over (I7).

        The arguments are those of :class:`~tests.faults.repeating.Repetition`.
        """
        self.repetition = Repetition(once, fault, **how)

    async def leaves_no_memory(self, once: Once[Watch], fault: FaultFor, times: int = 1000) -> None:
        """I7, of resident memory, and then like :meth:`again`; of that alone with a cache, which
        has what memory it takes from the start.
        """
        self.again(once, fault, at_once=PER_ROUND)
        if self.app.cache is not None or not ALL:
            return
        assert self.repetition is not None
        keys = self._with_keys(self.repetition, AT_ONCE)

        async def on_a_free_key() -> None:
            key = keys.pop()
            await once(self, key)
            keys.append(key)
            self._refill_tokens()
            if len(self.fake.requests) > 1000:
                self.fake.requests.clear()

        with keeping_no_lines(self.log):
            await memory_stays(on_a_free_key, times)

    async def repeat(self, repetition: Repetition[Watch]) -> None:
        """I7 in numbers of objects, and I6 once in each round."""
        keys = self._with_keys(repetition, repetition.at_once)

        async def round_() -> None:
            asked = [repetition.times(self, key, self.renew) for key in keys]
            if self.reachable and repetition.others_are_served:
                asked.append(self.probe())
            await asyncio.gather(*asked)
            await eventually(self.is_at_rest)
            # How many are kept is chance, and each is a hundred objects.
            close_idle_connections(self.app.pool)
            await eventually(lambda: not self.fake.open_connections)
            for _ in range(2):
                await asyncio.sleep(0)  # callbacks that are due hold what they are for
            self.fake.requests.clear()
            self.log.lines.clear()
            self.log.access.clear()
            self.app.s3.upstream._hedging._seen.clear()  # it holds so many and no more
            self._refill_tokens()  # the next round is to have as many

        with keeping_no_lines(self.log):
            async with repetition.conditions():
                await leaves_nothing(round_)

    def _refill_tokens(self) -> None:
        for _ in range(round(MAX_TOKENS / TOKENS_PER_SUCCESS)):
            self.app.s3.upstream.retry_tokens.earn()

    def renew(self, key: str) -> None:
        """Let a cache have nothing of an object: there is a version of it that it has not seen."""
        if self.app.cache is not None and key in self.fake.keys:
            one, other = (f'"{key}-{number}"' for number in (1, 2))
            self.put(key, self.fake.body(key), etag=other if self.fake.etag(key) == one else one)

    def _with_keys(self, repetition: Repetition[Watch], number: int) -> list[str]:
        """Objects of which each has the fault."""
        keys = [f"repeated{each}" for each in range(number)]
        for key in keys:
            self.put(key, _REPEATED)
            if repetition.fault is not None:
                self.fake.misbehave(repetition.fault(key), key=key, method=None)
        return keys

    def is_at_rest(self) -> bool:
        """Nothing goes on, on either side, but connections that are kept for later."""
        tasks = len(asyncio.all_tasks()) - self.fake.open_connections
        return (
            self.app.server.places.taken == 0
            and self.app.s3.upstream.slots.in_use == 0
            and self.fake.open_connections <= kept_by_all()
            and tasks <= self.baseline.tasks
        )

    async def over(self) -> None:
        """The fault is over: I3, I6 and I4's second half."""
        self.fake.behave()
        if self.reachable:
            await self.probe()
        await settled(self.app, self.fake, self.baseline, SETTLED_SECONDS)
        counted = self.rose("rangeserver_responses_total")
        assert counted == self.asked, f"{counted:g} responses counted of {self.asked}"


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

    ``cache``: with its cache on, in a directory of its own if these settings name none; without
    them it is as the fixture ``way`` has it, and off without that.
    ``reachable``: the origin serves at the beginning, so that the server is warm when its
    footprint is taken, and at the end.
    """
    fake.put(PROBE_KEY, PROBE_BODY)
    freeze()
    cache = USUALLY["cache"] if cache is None else cache
    with ExitStack() as stack:
        if cache is not None:
            directory = stack.enter_context(TemporaryDirectory(prefix="rangeserver-"))
            cache = {"enabled": True, "directory": directory, "min_free_bytes": 0, **cache}
        settings = {
            "server": server,
            "origin": {**DEADLINES, **(origin or {})},
            "cache": cache,
            "admin": admin,
        }
        async with _watched(fake, settings, reachable=reachable) as watch:
            yield watch


@asynccontextmanager
async def _watched(
    fake: FakeS3, settings: dict[str, Any], *, reachable: bool
) -> AsyncIterator[Watch]:
    with reading_along() as log:
        async with _watching(fake, log, settings, reachable=reachable) as watch:
            yield watch
            await watch.over()
            said = watch.repetition is not None
            repetition = watch.repetition if ALL else None
            if repetition is not None and repetition.origin is None:
                await watch.repeat(repetition)
                await watch.over()
        if repetition is not None and repetition.origin is not None:
            settings["origin"] |= repetition.origin
            async with _watching(fake, log, settings, reachable=reachable) as other:
                other.versions |= watch.versions
                await other.repeat(repetition)
                await other.over()
        gc.collect()
    assert not log.forbidden, log.forbidden
    # Faults of the cache are not of a request, and not all can be had twice.
    said = said or settings["cache"] is not None
    assert said, "the case does not say how its fault is repeated (I7)"


@asynccontextmanager
async def _watching(
    fake: FakeS3, log: LogWatch, settings: Mapping[str, Any], *, reachable: bool
) -> AsyncIterator[Watch]:
    async with counted(config_for(fake, **settings)) as app:
        nothing = scrape(app.app[METRICS])
        watch = Watch(app, fake, log, nothing, Footprint.of(app, fake), reachable)
        watch.versions[fake.etag(PROBE_KEY)] = PROBE_BODY
        if reachable:
            await watch.probe()
        await eventually(watch.is_at_rest, SETTLED_SECONDS)
        watch.baseline = Footprint.of(app, fake)
        watch.before, watch.asked = scrape(app.app[METRICS]), 0
        fake.requests.clear()
        yield watch
