"""Connections to the origin that are kept: how many, how long, and those on which more comes than
was asked for.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.support import RawClient, config_for, eventually, running_app

FILM = random.Random(1).randbytes(300_000)
ROUNDS = 10

CACHES: list[dict[str, Any] | None] = [None, {"block_bytes": 64 << 10, "ttl_seconds": 0}]

STRAY = {
    "the end of an empty body": b"0\r\n\r\n",
    "a document": faults.error_answer(404, "NoSuchKey").body,
    "an answer": b'HTTP/1.1 206 OK\r\nETag: "evil"\r\nContent-Length: 4\r\n'
    b"Content-Range: bytes 0-3/4\r\n\r\nevil",
}


async def missing_then_film(watch: Watch, key: str = "film") -> None:
    """A HEAD that finds nothing, and a GET that takes its connection over."""
    missing = await watch.get("/missing", method="HEAD", goes_on=False)
    assert missing.status == 404
    received = await watch.get(f"/{key}", goes_on=False, Range="bytes=10-1009")
    assert (received.status, received.complete) == (206, True)


@pytest.mark.fault("A30")
@pytest.mark.parametrize("cache", CACHES, ids=["past", "cached"])
@pytest.mark.parametrize("signing", ["per-object", "per-request"])
@pytest.mark.parametrize("stray", STRAY)
async def test_a_body_after_the_answer_to_a_head(
    fake: FakeS3, stray: str, signing: str, cache: dict[str, Any] | None
) -> None:
    async with watched(fake, origin={"signing": signing}, cache=cache) as watch:
        watch.put("film", FILM)
        fault = faults.stray_bytes(STRAY[stray])
        fake.misbehave(fault, key="missing", method="HEAD")
        for _ in range(ROUNDS):
            await missing_then_film(watch)
        await watch.counts(0, "rangeserver_origin_retries_total")
        watch.again(missing_then_film, lambda _: fault)


@pytest.mark.parametrize("cache", CACHES, ids=["past", "cached"])
@pytest.mark.parametrize("signing", ["per-object", "per-request"])
async def test_a_body_after_a_head_that_comes_once_the_next_request_is_sent(
    fake: FakeS3, signing: str, cache: dict[str, Any] | None
) -> None:
    """It is taken for the answer to that, which is then asked for over a new connection."""
    async with watched(fake, origin={"signing": signing}, cache=cache) as watch:
        watch.put("film", FILM)
        late = faults.stray_bytes(b"0\r\n\r\n", before_next=True)
        fake.misbehave(late, key="missing", method="HEAD")
        for _ in range(ROUNDS):
            await missing_then_film(watch)
        await watch.counts(ROUNDS, "rangeserver_origin_retries_total", reason="unreachable")
        await watch.counts(0, "rangeserver_responses_total", status="502", method="GET")
        fake.behave()
        watch.again(missing_then_film)


async def test_bytes_behind_a_body(fake: FakeS3) -> None:
    """The body is whole; what comes behind it has no part in the next one."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        for stray in STRAY.values():
            for before_next in (False, True):
                fake.behave()
                if before_next and stray.startswith(b"HTTP/"):
                    continue  # nothing tells it from the answer that is waited for
                fault = faults.stray_bytes(stray, before_next=before_next)
                fake.misbehave(fault, key="film", times=1)
                for _ in range(3):
                    received = await watch.get("/film")
                    assert (received.status, received.body == FILM) == (200, True)
        watch.again(missing_then_film)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_answer_that_nobody_asked_for(fake: FakeS3, method: str) -> None:
    """It ends the connection that it comes over; taken for the next one, it would be served."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        for stray in STRAY.values():
            assert (await watch.get("/film", method=method, goes_on=False)).status == 200
            await eventually(lambda: watch.app.idle == 1)
            for writer in fake._connections.values():
                writer.write(stray)
            await eventually(lambda: watch.app.idle == 0)
            assert (await watch.get("/film")).body == FILM
        await watch.counts(0, "rangeserver_origin_retries_total")
        watch.again(missing_then_film)


async def test_a_first_answer_that_is_none_is_not_asked_for_again(fake: FakeS3) -> None:
    """It came over a new connection, and so was meant."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.status_line("garbage"), key="film")
        await fake.refuse()  # so that no connection is kept
        await fake.listen()
        received = await watch.get("/film", goes_on=False)
        assert (received.status, received.error_code) == (502, "origin_protocol_error")
        assert len(fake.requests) == 1
        fake.behave()
        watch.again(missing_then_film)


# --- how many are kept, and how long


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("cache", CACHES, ids=["past", "cached"])
async def test_no_more_are_kept_than_may_be_used_of_all_hosts_together(
    fake: FakeS3, tmp_path: Path, cache: dict[str, Any] | None
) -> None:
    """With virtual-hosted addressing each bucket is a host; for another one's connection goes that
    which waits for longest.
    """
    buckets = [f"bucket{number}" for number in range(5)]
    origin = {
        "endpoint_url": f"http://origin.test:{fake.port}",
        "addressing_style": "virtual",
        "max_connections": 2,
    }
    if cache is not None:
        cache = {**cache, "enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
    config = config_for(fake, origin=origin, cache=cache)
    mounts = [{"path": f"/{bucket}/", "bucket": bucket} for bucket in buckets]
    config = type(config).model_validate({**config.model_dump(), "mounts": mounts})
    fake.put("film", FILM)
    opened: list[int] = []
    fake.on_request = lambda _: opened.append(fake.open_connections)
    async with running_app(config) as app, await RawClient.connect(app.port) as client:

        async def get(bucket: str) -> None:
            # The fake's own bucket stands in the key, for it is not in the path otherwise.
            response = await client.get(f"/{bucket}/{fake.bucket}/film")
            assert (response.status, response.body == FILM) == (200, True)
            await eventually(lambda: app.idle == fake.open_connections <= 2)

        for bucket in buckets:
            await get(bucket)
        assert len({seen.headers["host"] for seen in fake.requests}) == len(buckets)
        assert max(opened) <= 3  # one may be about to go
        kept = fake._connections.copy()
        assert len(kept) == 2
        for bucket in buckets[-2:]:
            await get(bucket)
        assert fake._connections == kept


@pytest.mark.parametrize("cache", CACHES, ids=["past", "cached"])
async def test_none_is_kept_for_longer_than_a_read_may_take(
    fake: FakeS3, cache: dict[str, Any] | None
) -> None:
    """The origin would be first to close it, perhaps as the next request comes."""
    async with watched(fake, origin={"idle_seconds": 0.5}, cache=cache) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film", goes_on=False)).body == FILM
        await eventually(lambda: watch.app.idle == fake.open_connections == 1)
        await eventually(lambda: fake.open_connections == 0)
        watch.again(missing_then_film)
