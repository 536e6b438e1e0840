"""A network that loses or holds packets: A8, A25, A26 and A27 of the fault catalogue."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

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
    "RANGESERVER_CACHE__ENABLED": "false",
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


@asynccontextmanager
async def network(**deadlines: float) -> AsyncIterator[Network]:
    """On leaving, with the fault undone, the invariants are checked."""
    async with (
        namespace() as inside,
        FakeS3(listener=inside.listener()) as fake,
        served(
            *("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url),
            environ={**ENVIRON, **{_variable(name): str(s) for name, s in deadlines.items()}},
            prefix=inside.prefix,
            program="tests.fairly",
        ) as server,
    ):
        await eventually(lambda: fake.requests != [])  # the readiness probe came through
        async with watched_process(server, fake, inside.connect, probe=("small", SMALL)) as watch:
            watch.put("film", FILM)
            assert (await watch.get("/film")).body == FILM
            yield Network(inside, fake, watch)


def _variable(setting: str) -> str:
    return f"RANGESERVER_ORIGIN__{setting.upper()}"


async def test_a08_syn_blackhole() -> None:
    async with network() as net:
        drop = ("INPUT", "-p", "tcp", "--dport", str(net.fake.port), "-j", "DROP")
        await net.rule("-A", *drop)
        for client in range(3):
            began = time.monotonic()
            response = await net.get(f"/small?{client}")
            took = time.monotonic() - began
            assert response.status in {503, 504}
            assert b"origin_timeout" in response.body or b"origin_suspended" in response.body
            # The first may meet a connection that stood before, and wait for its answer.
            assert took < RESPONSE_SECONDS + SLACK_SECONDS
            await net.watch.alive()

        async def once() -> None:
            assert (await net.get("/small")).status in {503, 504}

        await net.watch.repeat(once)
        await net.rule("-D", *drop)


async def test_a25_one_megabit() -> None:
    """Both ways of the film pass the same narrow interface; slow is not broken. The deadlines are
    half of the default ones.
    """
    async with network(idle_seconds=5, response_seconds=7) as net:
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


async def test_a26_two_percent_loss() -> None:
    async with network() as net:
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


async def test_a27_blackhole_after_100_kilobytes() -> None:
    """Every origin connection falls silent after 100 kB: a range is put together from several, a
    film needs more of them than there are attempts.
    """
    async with network() as net:
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
        assert now("rangeserver_origin_resumes_total") >= 4

        async def once() -> None:
            assert (await net.get("/film", Range="bytes=0-109999")).complete

        await net.watch.repeat(once)
        await net.rule("-D", *silence)
