"""Credentials, clock, bucket and region: A13 (bucket), D2 to D5 and D7 of the fault catalogue."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import unused_port

from rangeserver.origin.credentials import kept_credentials
from rangeserver.origin.refresh_timing import RefreshTiming
from tests.cli.commands import served
from tests.fakes import faults
from tests.fakes.aws import FakeAws
from tests.fakes.moto import moto_with
from tests.fakes.s3 import FakeS3
from tests.fakes.strict import ClockedS3, ExpiringS3, access_key
from tests.faults.invariants import PROBE_BODY, PROBE_KEY, Watch, watched
from tests.faults.leaks import PER_ROUND
from tests.faults.logs import FORBIDDEN
from tests.faults.processes import watched_process
from tests.faults.repeating import refused
from tests.faults.repeating import served as served_in_part
from tests.faults.tools import needs
from tests.support import RawClient, RawResponse, eventually

MIB = 1 << 20
FILM = random.Random(1).randbytes(4 * MIB)


async def readiness(admin_port: int) -> RawResponse:
    async with await RawClient.connect(admin_port) as client:
        return await client.get("/readyz", Connection="close")


async def not_ready(admin_port: int, seconds: float = 5.0) -> str:
    """The reason, once there is one from the origin's answer."""
    async with asyncio.timeout(seconds):
        while True:
            response = await readiness(admin_port)
            text = response.body.decode()
            if response.status == 503 and "has not answered yet" not in text:
                assert not FORBIDDEN.search(text)
                return text
            await asyncio.sleep(0.02)


async def ready(admin_port: int) -> None:
    async with asyncio.timeout(5):
        while (await readiness(admin_port)).status != 200:  # noqa: ASYNC110 (asked from outside)
            await asyncio.sleep(0.02)


async def test_d02_no_credentials(fake: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    async with watched(fake, admin=True, reachable=False) as watch:
        watch.put("film", FILM)
        assert "credentials" in await not_ready(watch.app.admin_port)
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (502, "origin_refused")
        assert b"redentials" not in received.body  # that is for the log
        assert watch.log.said("(?i)credentials")
        assert fake.requests == []
        watch.again(refused(502, "origin_refused"))


REFRESHES = "rangeserver_credentials_refreshes_total"


@pytest.fixture
async def imds(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAws]:
    """The credentials of an instance's role, from its metadata service."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    async with FakeAws() as services:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{services.url}/")
        yield services


async def test_d03_expired_token(imds: FakeAws) -> None:
    """What runs ends normally; new credentials are looked for once, for all; there are none, so
    nobody can be served, and the server says so.
    """
    imds.imds.same_keys = True
    async with ExpiringS3() as fake, watched(fake, admin=True) as watch:
        await ready(watch.app.admin_port)
        watch.put("film", FILM)
        fake.misbehave(faults.drip(32 * 1024, 0.01), key="film", times=1)
        running = asyncio.create_task(watch.get("/film", goes_on=False))
        await eventually(lambda: fake.seen("GET") != [])
        looked = imds.imds.hits
        fake.expired.add(imds.imds.latest)
        for _ in range(3):  # also soon after
            others = (watch.get(f"/other{number}", goes_on=False) for number in range(10))
            for received in await asyncio.gather(*others):
                assert (received.status, received.error_code) == (502, "origin_refused")
        assert imds.imds.hits == looked + 1
        await watch.counts(1, REFRESHES, outcome="ok")
        assert watch.rose(REFRESHES) == 1
        assert not running.done()
        hits = [request for request in fake.requests if request.key.startswith("other")]
        assert len(hits) == 30  # none of them was repeated
        assert "ExpiredToken" in await not_ready(watch.app.admin_port)
        assert watch.log.said("ExpiredToken")
        assert (await running).complete
        fake.expired.clear()
        await served_again(watch)
        await ready(watch.app.admin_port)
        assert imds.imds.hits == looked + 1
        watch.again(
            refused(502, "origin_refused"), during=expired(fake, imds), others_are_served=False
        )


@asynccontextmanager
async def expired(fake: ExpiringS3, imds: FakeAws) -> AsyncIterator[None]:
    fake.expired.add(imds.imds.latest)
    try:
        yield
    finally:
        fake.expired.clear()


async def test_d03_expired_token_and_new_ones(imds: FakeAws) -> None:
    """A hundred requests at once find out that the token has expired, and none of them fails."""
    async with ExpiringS3() as fake, watched(fake) as watch:
        watch.put("film", FILM)
        old = imds.imds.latest
        fake.expired.add(old)
        asked = (
            watch.get("/film", goes_on=False, Range=f"bytes={number}-{number + 9}")
            for number in range(100)
        )
        for received in await asyncio.gather(*asked):
            assert received.status == 206
        assert watch.rose(REFRESHES) == 1
        assert imds.imds.latest != old
        refused = [request for request in fake.requests if access_key(request) == old]
        assert 1 <= len(refused) <= 100
        assert len(fake.requests) == 100 + len(refused)
        assert watch.rose("rangeserver_origin_retries_total") == 0

        async def once(watch: Watch, key: str) -> None:
            fake.expired = {imds.imds.latest}
            received = await watch.get(f"/{key}", goes_on=False)
            assert received.status in {200, 502}  # new ones are not looked for all the time

        watch.again(once, during=expired(fake, imds), others_are_served=False)


class Clock:
    """The time of day, which a test moves."""

    moved = 0.0

    def __call__(self) -> float:
        return time.time() + self.moved


RESTLESS = RefreshTiming(
    look_up_seconds=2.0, min_pause_seconds=0.05, max_pause_seconds=0.05, clock_seconds=0.01
)
"""A look-up that fails is repeated at once, and the clock is looked at all the time."""


@pytest.mark.parametrize(
    ("fault", "signing"),
    [
        ("down", "per-object"),
        ("slow", "per-object"),
        ("500", "per-object"),
        ("slow", "per-request"),
    ],
)
async def test_d04_metadata_service(
    fake: FakeS3, imds: FakeAws, monkeypatch: pytest.MonkeyPatch, fault: str, signing: str
) -> None:
    """Five minutes before the expiry, where botocore by itself would have every request wait for
    the metadata service and fail with it, the old credentials are used and nobody waits.
    """
    clock = Clock()
    kept = functools.partial(kept_credentials, timing=RESTLESS, clock=clock)
    monkeypatch.setattr("rangeserver.origin.upstream.kept_credentials", kept)
    imds.imds.life_seconds = 6 * 3600
    async with watched(fake, origin={"signing": signing}) as watch:
        watch.put("film", FILM)
        old, looked = imds.imds.latest, imds.imds.hits
        calm = await latencies(watch)
        async with failing(imds, fault, clock):
            if fault == "slow":
                await eventually(lambda: imds.imds.stalled > 0)
            else:
                await eventually(lambda: watch.rose(REFRESHES, outcome="failed") >= 1)
            assert watch.log.said("are good until") or fault == "slow"
            fake.requests.clear()
            during = await latencies(watch)
            assert {access_key(request) for request in fake.requests} == {old}
            assert during < max(2 * calm, 0.1), f"p99 {during:.3f} s, {calm:.3f} s before"
            assert imds.imds.hits <= looked + 1
        await eventually(
            lambda: imds.imds.latest != old and watch.rose(REFRESHES, outcome="ok") > 0
        )
        assert (await watch.get("/film", goes_on=False)).complete
        assert access_key(fake.requests[-1]) == imds.imds.latest
        watch.again(served_in_part, during=failing(imds, fault, clock))


@asynccontextmanager
async def failing(imds: FakeAws, fault: str, clock: Clock) -> AsyncIterator[None]:
    """The metadata service has the fault and credentials are about to expire."""
    match fault:
        case "down":
            await imds.refuse()
        case "slow":
            imds.imds.stall()
        case _:
            imds.imds.status = 500
    clock.moved = imds.imds.life_seconds - 300
    try:
        yield
    finally:
        if fault == "down":
            await imds.listen()
        imds.imds.status = 200
        imds.imds.release()


async def latencies(watch: Watch) -> float:
    """The 99th percentile of the seconds that 200 small requests took, all of them served."""
    seconds = []
    for _ in range(200):
        received = await watch.get("/film", goes_on=False, Range="bytes=10-19")
        assert (received.status, received.body) == (206, FILM[10:20])
        seconds.append(received.seconds)
    return sorted(seconds)[197]


async def served_again(watch: Watch) -> None:
    async with asyncio.timeout(10):
        while (await watch.get("/film", goes_on=False)).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def in_twenty_minutes() -> dict[str, str]:
    """What ``faketime -f +20m`` sets for a command. It waits for the command as its parent, so
    that a signal to it would not end the server.
    """
    process = await asyncio.create_subprocess_exec(
        "faketime", "-f", "+20m", "env", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    variables = dict(line.split("=", 1) for line in output.decode().splitlines() if "=" in line)
    kept = {name: variables[name] for name in ("LD_PRELOAD", "FAKETIME")}
    return {**kept, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.mark.slow
@needs("faketime")
async def test_d05_clock_skew() -> None:
    """The server's clock is 20 minutes fast; the fake, like S3, allows 15."""
    async with (
        ClockedS3() as fake,
        served(
            *("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url),
            environ={
                "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
                **(await in_twenty_minutes()),
            },
        ) as server,
        watched_process(server, fake, probe=("film", FILM), reachable=False) as watch,
    ):
        response = await watch.get("/film")
        assert response.status == 502
        assert b'"origin_clock_skew"' in response.body
        line = await watch.logged("origin_clock_skew")
        assert "clock" in line["message"]
        assert response.headers["x-request-id"] in line["message"]
        assert "clock" in await not_ready(server.admin_port)
        await watch.alive()  # to restart it helps nothing

        async def once() -> None:
            assert (await watch.get("/film")).status == 502

        await watch.repeat(once)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_with({"film": FILM, PROBE_KEY: PROBE_BODY}) as url:
        yield url


@pytest.mark.parametrize(("key", "status"), [("film", 200), ("nothing", 404)])
async def test_a13_no_such_key_on_moto(fake: FakeS3, moto: str, key: str, status: int) -> None:
    async with watched(fake, origin={"endpoint_url": moto}, admin=True) as watch:
        await ready(watch.app.admin_port)
        watch.put("film", FILM)
        received = await watch.get(f"/{key}")
        assert received.status == status

        async def once(watch: Watch, _: str) -> None:
            received = await watch.get(f"/{key}", goes_on=False, Range="bytes=0-9")
            assert received.status == {200: 206}.get(status, status)

        watch.again(once)


async def test_a13_d07_no_such_bucket_on_moto(fake: FakeS3, moto: str) -> None:
    origin = {"endpoint_url": moto, "bucket": "nobody-s"}
    async with watched(fake, origin=origin, admin=True, reachable=False) as watch:
        assert "NoSuchBucket" in await not_ready(watch.app.admin_port)
        for _ in range(2):  # and is not mistaken for a missing object the second time
            received = await watch.get("/film", goes_on=False)
            assert (received.status, received.error_code) == (502, "origin_refused")
            assert b"nobody-s" not in received.body
        watch.again(refused(502, "origin_refused"))


@pytest.mark.parametrize(
    ("status", "code"),
    [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")],
)
async def test_d07_wrong_region(fake: FakeS3, status: int, code: str) -> None:
    """As S3 answers, which moto does not: it takes any region."""
    fake.misbehave(faults.error(status, code), method=None)
    async with watched(fake, admin=True, reachable=False) as watch:
        watch.put("film", FILM)
        assert code in await not_ready(watch.app.admin_port)
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (502, "origin_refused")
        watch.again(refused(502, "origin_refused"), lambda _: faults.error(status, code))


async def test_d07_nothing_listens_at_the_start(fake: FakeS3) -> None:
    origin = {"endpoint_url": f"http://127.0.0.1:{unused_port()}"}
    async with watched(fake, origin=origin, admin=True, reachable=False) as watch:
        await not_ready(watch.app.admin_port)
        assert (await watch.get("/film", goes_on=False)).status in {502, 503}

        async def once(watch: Watch, key: str) -> None:
            assert (await watch.get(f"/{key}", goes_on=False)).status == 502

        watch.again(once, at_once=PER_ROUND, keeps_circuit_closed=True)
