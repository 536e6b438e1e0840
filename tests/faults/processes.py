"""The invariants of :mod:`tests.faults.invariants`, for a server that is a process of its own.

Of a process is seen from outside what it has open, how many threads it has and how much memory,
and from inside what it says of itself: its metrics and its log. I7 is measured in memory: a
round of repetitions that leaves :data:`LEAK_BYTES` for each, and so does every other, is a leak.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.amount import ALL
from tests.cli.commands import Served
from tests.exposition import Scrape, parsed
from tests.fakes.s3 import FakeS3
from tests.faults.leaks import PER_ROUND
from tests.faults.logs import FORBIDDEN
from tests.faults.memory import resident_bytes
from tests.faults.responses import check
from tests.support import RawClient, RawResponse

LEAK_BYTES = 2048
"""Less than a request with its response and the records of both take in a Python process."""

ROUNDS = 30
"""The allocator takes what it needs within twenty of them; only a leak goes on for all."""

RECOVERED_SECONDS = 15.0
"""The origin may have been given up on for some seconds."""

PROBE_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class ProcessWatch:
    """A server process, its origin, and what was seen of both."""

    server: Served
    fake: FakeS3
    connect: Callable[[int], Awaitable[RawClient]]
    versions: dict[str, bytes] = field(default_factory=dict, repr=False)
    seen: dict[str, int] = field(default_factory=dict)
    """The status of each response, by its request id."""
    log: list[str] = field(default_factory=list)
    repeated: bool = False

    def put(self, key: str, body: bytes) -> None:
        """Store a version of an object, and remember it by its ETag."""
        self.fake.put(key, body)
        self.versions[self.fake.etag(key)] = body

    async def get(self, target: str, **headers: str) -> RawResponse:
        """Ask on a connection of its own, and check what comes (I1, I5)."""
        async with await self.connect(self.server.port) as client:
            response = await client.get(target, **headers)
        check(response, self.versions, bucket=self.fake.bucket)
        self.seen[response.headers["x-request-id"]] = response.status
        return response

    async def admin(self, target: str) -> RawResponse:
        """Ask on the port for monitoring."""
        async with await self.connect(self.server.admin_port) as client:
            return await client.get(target, Connection="close")

    async def metrics(self) -> Scrape:
        return parsed((await self.admin("/metrics")).body.decode())

    async def alive(self) -> None:
        """I6, where the whole origin is away: the server itself answers."""
        async with asyncio.timeout(PROBE_SECONDS):
            assert (await self.admin("/healthz")).status == 200

    async def logged(self, text: str) -> dict[str, Any]:
        """The first line of the log whose message has ``text``."""
        async with asyncio.timeout(RECOVERED_SECONDS):
            while True:
                for line in map(json.loads, self.log):
                    if text in line.get("message", ""):
                        return dict(line)
                await asyncio.sleep(0.02)

    async def repeat(self, once: Callable[[], Awaitable[object]]) -> None:
        """I7: with the fault still there, do it again and again, :data:`PER_ROUND` at once."""
        self.repeated = True
        if not ALL:
            return
        grown: list[int] = []
        for _ in range(1 + ROUNDS):
            before = resident_bytes(self.server.process.pid)
            await asyncio.gather(*(once() for _ in range(PER_ROUND)))
            await self.at_rest()
            grown.append(resident_bytes(self.server.process.pid) - before)
            # The first rounds fill pools and caches.
            if len(grown) > 1 and grown[-1] < PER_ROUND * LEAK_BYTES:
                return
        raise AssertionError(f"resident memory grew each time: {grown}")

    def footprint(self) -> dict[str, int]:
        """What the process holds, without origin connections and cache files that it keeps open."""
        process = Path(f"/proc/{self.server.process.pid}")
        files = [descriptor.resolve() for descriptor in (process / "fd").iterdir()]
        # One that this process has made goes by the name that it had at first.
        cached = [file for file in files if {"objects", "new"} & set(file.parts[:-1])]
        return {
            "descriptors": len(files) - len(cached) - self.fake.open_connections,
            "threads": len(list((process / "task").iterdir())),
        }

    async def at_rest(self) -> None:
        """I3, from inside: no request goes on."""
        async with asyncio.timeout(RECOVERED_SECONDS):
            while True:
                now = await self.metrics()
                if not any(
                    (
                        now("rangeserver_active_streams"),
                        now("rangeserver_origin_connections", state="in_use"),
                        now("rangeserver_origin_connections", state="waiting"),
                    )
                ):
                    return
                await asyncio.sleep(0.02)

    async def over(self, probe: str, before: dict[str, int]) -> None:
        """The fault is over: I6 and I3."""
        async with asyncio.timeout(RECOVERED_SECONDS):
            while (await self.get(probe)).status != 200:  # noqa: ASYNC110 (asked from outside)
                await asyncio.sleep(0.1)
        began = time.monotonic()
        assert (await self.get(probe)).complete
        assert time.monotonic() - began < PROBE_SECONDS
        await self.at_rest()
        async with asyncio.timeout(RECOVERED_SECONDS):
            while any(now > before[name] for name, now in self.footprint().items()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def counted(self) -> None:
        """I4, from inside: every response was counted."""
        counted = sum((await self.metrics()).named("rangeserver_responses_total").values())
        assert counted == len(self.seen), f"{counted:g} responses counted of {len(self.seen)}"

    def check_log(self) -> None:
        """I5, and of I4: each response is one access line, under its id and with its status."""
        text = "\n".join(self.log)
        assert not FORBIDDEN.search(text), text
        lines = [line for line in map(json.loads, self.log) if line.get("log") == "access"]
        logged = {line["request_id"]: line["status"] for line in lines}
        assert len(logged) == len(lines)
        assert logged == self.seen


@asynccontextmanager
async def watched_process(
    server: Served,
    fake: FakeS3,
    connect: Callable[[int], Awaitable[RawClient]] = RawClient.connect,
    *,
    probe: tuple[str, bytes],
    reachable: bool = True,
    pool_threads: int = 0,
) -> AsyncIterator[ProcessWatch]:
    """On leaving, the fault over, the invariants are checked, and the server has ended well.

    ``reachable``: the object ``probe`` is served at the beginning and at the end. ``pool_threads``:
    so many more may have been started by a pool that grows as it is used.
    """
    watch = ProcessWatch(server, fake, connect)
    reading = asyncio.create_task(_read(server, watch.log))
    try:
        watch.put(*probe)
        if reachable:
            assert (await watch.get(f"/{probe[0]}")).complete
        await watch.at_rest()
        before = watch.footprint()
        before["threads"] += pool_threads
        yield watch
        if reachable:
            await watch.over(f"/{probe[0]}", before)
        await watch.at_rest()
        await watch.counted()
        assert watch.repeated, "the case does not repeat its fault (I7)"
        server.process.terminate()
        assert await server.ended() == 0
        await reading
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    watch.check_log()


async def _read(server: Served, lines: list[str]) -> None:
    """Keep what is logged, so that the server never waits for somebody to read it."""
    assert server.process.stderr is not None
    while line := await server.process.stderr.readline():
        lines.append(line.decode())
