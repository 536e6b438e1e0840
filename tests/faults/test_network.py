"""A network that loses or holds packets: A8, A25, A26 and A27 of the fault catalogue."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rangeserver.cache.disk import THREADS
from tests.cli.commands import served
from tests.fakes.s3 import FakeS3
from tests.faults.logs import SECRET_KEY
from tests.faults.namespace import Namespace, namespace
from tests.faults.processes import ProcessWatch, watched_process
from tests.faults.tools import needs
from tests.support import RawResponse, eventually

pytestmark = [
    pytest.mark.slow,
    needs("ip", "iptables", "tc", root=True),
]

SMALL = random.Random(4).randbytes(1000)
FILM = random.Random(5).randbytes(1 << 20)
CONNECT_SECONDS = 0.4
RESPONSE_SECONDS = 1.2
IDLE_SECONDS = 0.5
ATTEMPTS = 2
SLACK_SECONDS = 1.5

ENVIRON = {
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
    "RANGESERVER_ORIGIN__CONNECT_SECONDS": str(CONNECT_SECONDS),
    "RANGESERVER_ORIGIN__RESPONSE_SECONDS": str(RESPONSE_SECONDS),
    "RANGESERVER_ORIGIN__IDLE_SECONDS": str(IDLE_SECONDS),
    "RANGESERVER_ORIGIN__MAX_ATTEMPTS": str(ATTEMPTS),
    "RANGESERVER_ORIGIN__MAX_RESUMES": "3",
}


@dataclass(frozen=True, slots=True)
class Network:
    """A server and its origin in a network of their own."""

    inside: Namespace
    fake: FakeS3
    watch: ProcessWatch

    async def get(self, target: str, **headers: str) -> RawResponse:
        return await self.watch.get(target, **headers)

    async def rule(self, action: str, *rule: str) -> None:
        """Add (-A) or delete (-D) a rule of the packet filter."""
        await self.inside.run("iptables", "-w", action, *rule)


@dataclass(frozen=True, slots=True)
class Way:
    """The way of a response: past the cache, or through it, with threads that wait for the disk."""

    environ: Mapping[str, str]
    pool_threads: int = 0
    shared: bool = False
    """Whether clients who want the same share what is fetched."""


CACHED = {
    "TTL_SECONDS": "0",
    "STALE_WHILE_REVALIDATE_SECONDS": "0",
    "MIN_FREE_BYTES": "0",
    "BLOCK_BYTES": "65536",
}


@pytest.fixture(params=["past", "cached"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    if request.param == "past":
        return Way({"RANGESERVER_CACHE__ENABLED": "false"})
    settings = {"DIRECTORY": str(tmp_path / "cache"), **CACHED}
    environ = {f"RANGESERVER_CACHE__{name}": value for name, value in settings.items()}
    return Way(environ, THREADS, shared=True)


@asynccontextmanager
async def network(way: Way, **deadlines: float) -> AsyncIterator[Network]:
    """On leaving, with the fault undone, the invariants are checked."""
    times = {_variable(name): str(seconds) for name, seconds in deadlines.items()}
    async with (
        namespace() as inside,
        FakeS3(listener=inside.listener()) as fake,
        served(
            *("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url),
            environ={**ENVIRON, **way.environ, **times},
            prefix=inside.prefix,
            program="tests.fairly",
        ) as server,
    ):
        await eventually(lambda: fake.requests != [])  # the readiness probe came through
        watching = watched_process(
            server, fake, inside.connect, probe=("small", SMALL), pool_threads=way.pool_threads
        )
        async with watching as watch:
            watch.put("clip", FILM)
            assert (await watch.get("/clip")).body == FILM
            watch.put("film", FILM)  # of which a cache has nothing
            yield Network(inside, fake, watch)


def _variable(setting: str) -> str:
    return f"RANGESERVER_ORIGIN__{setting.upper()}"


async def test_a08_syn_blackhole(way: Way) -> None:
    async with network(way) as net:
        drop = ("INPUT", "-p", "tcp", "--dport", str(net.fake.port), "-j", "DROP")
        await net.rule("-A", *drop)
        for client in range(3):
            began = time.monotonic()
            response = await net.get(f"/film?{client}")
            took = time.monotonic() - began
            assert response.status in {503, 504}
            assert b"origin_timeout" in response.body or b"origin_suspended" in response.body
            # The first may meet a connection that stood before, and wait for its answer.
            assert took < RESPONSE_SECONDS + SLACK_SECONDS
            await net.watch.alive()

        async def once() -> None:
            assert (await net.get("/film")).status in {503, 504}

        await net.watch.repeat(once)
        await net.rule("-D", *drop)


async def test_a25_one_megabit(way: Way) -> None:
    """Both ways of the film pass the same narrow interface; slow is not broken. The deadlines are
    half of the default ones.
    """
    async with network(way, idle_seconds=5, response_seconds=7) as net:
        await net.inside.run(
            *("tc", "qdisc", "add", "dev", "lo", "root"),
            *("tbf", "rate", "1mbit", "burst", "32kbit", "latency", "400ms"),
        )
        before = await net.watch.metrics()
        began = time.perf_counter()
        response = await net.get("/film", Range="bytes=0-119999")
        assert time.perf_counter() - began > 1  # it was narrow
        assert response.body == FILM[:120_000]
        now = await net.watch.metrics()
        assert now("rangeserver_origin_resumes_total") == before("rangeserver_origin_resumes_total")

        async def once() -> None:
            assert (await net.get("/film", Range="bytes=0-99")).complete

        await net.watch.repeat(once)
        await net.inside.run("tc", "qdisc", "delete", "dev", "lo", "root")


async def test_a26_two_percent_loss(way: Way) -> None:
    async with network(way) as net:
        lose = (
            *("OUTPUT", "-p", "tcp", "--sport", str(net.fake.port), "-j", "DROP"),
            *("-m", "statistic", "--mode", "random", "--probability", "0.02"),
        )
        await net.rule("-A", *lose)

        async def client(seed: int) -> None:
            spots = random.Random(seed)
            for _ in range(4):
                start = spots.randrange(len(FILM) - 100_000)
                stop = start + spots.randrange(1, 100_000)
                response = await net.get("/film", Range=f"bytes={start}-{stop - 1}")
                assert response.status == 206
                assert response.body == FILM[start:stop]

        await asyncio.gather(*(client(seed) for seed in range(8)))

        async def once() -> None:
            assert (await net.get("/film", Range="bytes=0-9999")).complete

        await net.watch.repeat(once)
        await net.rule("-D", *lose)


async def test_a27_blackhole_after_100_kilobytes(way: Way) -> None:
    """Every origin connection falls silent after 100 kB: a range is put together from several, a
    film needs more of them than there are attempts.
    """
    async with network(way) as net:
        silence = (
            *("OUTPUT", "-p", "tcp", "--sport", str(net.fake.port), "-j", "DROP"),
            *("-m", "connbytes", "--connbytes", "100000:"),
            *("--connbytes-dir", "reply", "--connbytes-mode", "bytes"),
        )
        await net.rule("-A", *silence)
        film = asyncio.create_task(net.get("/film"))
        assert (await net.get("/small")).body == SMALL  # on a connection of its own
        await net.watch.alive()
        began = time.monotonic()
        response = await net.get("/film", Range="bytes=0-199999")
        assert time.monotonic() - began < 4 * IDLE_SECONDS + 2 * SLACK_SECONDS
        assert response.body == FILM[:200_000]
        cut_off = await film
        assert not cut_off.complete
        assert cut_off.body == FILM[: len(cut_off.body)]
        now = await net.watch.metrics()
        assert now("rangeserver_origin_resumes_total") >= (3 if way.shared else 4)

        async def once() -> None:
            assert (await net.get("/film", Range="bytes=0-109999")).complete

        await net.watch.repeat(once)
        await net.rule("-D", *silence)
