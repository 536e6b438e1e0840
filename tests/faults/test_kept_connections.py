"""Connections to the origin on which more comes than was asked for."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.support import eventually

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
