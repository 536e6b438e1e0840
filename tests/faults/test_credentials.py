"""Credentials, clock, bucket and region: A13 (bucket), D2, D3, D5, D7 of the fault catalogue.

D4, an instance metadata service that is down or slow, is with the tests of credentials.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from aiohttp.test_utils import unused_port
from moto.server import ThreadedMotoServer

from tests.cli.commands import served
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.fakes.strict import ClockedS3, ExpiringS3
from tests.faults.invariants import DEADLINES, Watch, watched
from tests.faults.logs import FORBIDDEN
from tests.faults.tools import needs
from tests.support import RawClient, RawResponse, config_for, eventually, running_app

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


async def test_d03_expired_token() -> None:
    """What runs ends normally; then nobody can be served, and the server says so."""
    async with ExpiringS3() as fake, watched(fake, admin=True) as watch:
        await ready(watch.app.admin_port)
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(2 * MIB), key="film", times=1)
        running = asyncio.create_task(watch.get("/film", goes_on=False))
        await eventually(lambda: fake.stalled == 1)
        fake.expired = True
        fake.release()
        assert (await running).complete
        for _ in range(3):
            received = await watch.get("/film", goes_on=False)
            assert received.status == 502
            assert received.error_code in {"origin_refused", "credentials_expired"}
        await not_ready(watch.app.admin_port)
        assert watch.log.said("ExpiredToken")
        fake.expired = False
        await served_again(watch)
        await ready(watch.app.admin_port)


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
    async with ClockedS3() as fake:
        fake.put("film", FILM)
        async with served(
            *("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url),
            environ={
                "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
                **(await in_twenty_minutes()),
            },
        ) as server:
            async with await RawClient.connect(server.port) as client:
                response = await client.get("/film")
            assert response.status == 502
            assert b'"origin_clock_skew"' in response.body
            line = await server.line_with("origin_clock_skew")
            assert "clock" in line["message"]
            assert response.headers["x-request-id"] in line["message"]
            assert "clock" in await not_ready(server.admin_port)
            async with await RawClient.connect(server.admin_port) as client:
                assert (await client.get("/healthz")).status == 200  # to restart it helps nothing


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3: Any = boto3.client("s3", endpoint_url=url)  # type: ignore[no-untyped-call]
    s3.create_bucket(Bucket="films")
    s3.put_object(Bucket="films", Key="film", Body=FILM)
    yield url
    server.stop()


@pytest.mark.parametrize(("key", "status"), [("film", 200), ("nothing", 404)])
async def test_a13_no_such_key_on_moto(fake: FakeS3, moto: str, key: str, status: int) -> None:
    config = config_for(fake, origin={**DEADLINES, "endpoint_url": moto}, admin=True)
    async with running_app(config) as app:
        await ready(app.admin_port)
        async with await RawClient.connect(app.port) as client:
            response = await client.get(f"/{key}")
        assert response.status == status
        assert b"films" not in response.body[:200]


async def test_a13_d07_no_such_bucket_on_moto(fake: FakeS3, moto: str) -> None:
    origin = {**DEADLINES, "endpoint_url": moto, "bucket": "nobody-s"}
    async with running_app(config_for(fake, origin=origin, admin=True)) as app:
        assert "NoSuchBucket" in await not_ready(app.admin_port)
        async with await RawClient.connect(app.port) as client:
            for _ in range(2):  # and is not mistaken for a missing object the second time
                response = await client.get("/film")
                assert response.status == 502
                assert b'"origin_refused"' in response.body
                assert b"nobody-s" not in response.body


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


async def test_d07_nothing_listens_at_the_start(fake: FakeS3) -> None:
    origin = {**DEADLINES, "endpoint_url": f"http://127.0.0.1:{unused_port()}"}
    async with running_app(config_for(fake, origin=origin, admin=True)) as app:
        await not_ready(app.admin_port)
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/film")).status in {502, 503}
