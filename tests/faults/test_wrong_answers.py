"""Answers that are not what was asked for: A11 to A16 and A19 to A21 of the fault catalogue."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from tests.fakes import faults
from tests.fakes.faults import Fault
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.faults.leaks import PER_ROUND
from tests.faults.repeating import ALL_AT_ONCE, refused, served, served_by_head
from tests.faults.responses import Received
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("way")

MIB = 1 << 20
FILM = random.Random(1).randbytes(MIB)
RETRIES = "rangeserver_origin_retries_total"
RESPONSES = "rangeserver_responses_total"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"),
        (502, "BadGateway"),
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (504, "GatewayTimeout"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a11_failed_once(fake: FakeS3, method: str, status: int, code: str) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.error(status, code), key="film", method=None, times=1)
        received = await watch.get("/film", method=method)
        assert received.status == 200
        assert received.complete
        await watch.counts(1, RETRIES)
        own, after = 1, method == "GET"  # the other object on the same connection
        await watch.counts(own + after, RESPONSES, outcome="complete", status="200", method=method)
        once = served if method == "GET" else served_by_head
        failing = faults.error(status, code)
        watch.again(
            once,
            lambda _: faults.every_other(failing),
            at_once=PER_ROUND,
            keeps_circuit_closed=True,  # to which a 504 is a request without an answer
        )


@pytest.mark.long
async def test_a11_repetitions(fake: FakeS3) -> None:
    """Fewer of them: each waits before it tries again, and retries have a budget."""
    async with watched(fake) as watch:
        fault = faults.error(500, "InternalError")
        await watch.leaves_no_memory(served, lambda _: rarely(fault, 10), times=500)


def rarely(fault: Fault, one_in: int) -> Fault:
    """Apply ``fault`` to one in so many answers."""
    turns = itertools.count(1)
    return lambda answer: answer if next(turns) % one_in else fault(answer)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("as_not_found", "status"), [(False, 403), (True, 404)])
async def test_a12_access_denied(
    fake: FakeS3, method: str, as_not_found: bool, status: int
) -> None:
    async with watched(fake, origin={"forbidden_as_not_found": as_not_found}) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.error(403, "AccessDenied"), key="film", method=None)
        received = await watch.get("/film", method=method)
        assert received.status == status
        await watch.probe()
        await watch.counts(0, RETRIES)
        code = "not_found" if as_not_found else "access_denied"
        watch.again(
            refused(status, code, method=method), lambda _: faults.error(403, "AccessDenied")
        )


@pytest.mark.long
async def test_a12_repetitions(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        await watch.leaves_no_memory(
            refused(403, "access_denied"), lambda _: faults.error(403, "AccessDenied")
        )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a13_no_such_key(fake: FakeS3, method: str) -> None:
    async with watched(fake) as watch:
        received = await watch.get("/nothing", method=method)
        assert received.status == 404
        if method == "GET":
            assert received.error_code == "not_found"
        await watch.probe()
        await watch.counts(0, RETRIES)
        watch.again(
            refused(404, "not_found", method=method), lambda _: faults.error(404, "NoSuchKey")
        )


async def test_a14_whole_object_for_a_range(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.whole_object, key="film")
        await unusable(watch)

        await watch.leaves_no_memory(served_or_not, lambda _: faults.whole_object)


async def served_or_not(watch: Watch, key: str) -> None:
    received = await watch.get(f"/{key}", goes_on=False, Range="bytes=10-1009")
    assert received.status in {206, 502}


async def unusable(watch: Watch) -> Received:
    """502 before a byte, or a slice of it: get() compares; never a clean end with less."""
    received = await watch.get("/film", Range="bytes=10-500009")
    if received.status == 206:
        assert not received.complete or len(received.body) == 500_000
    else:
        assert (received.status, received.error_code) == (502, "origin_protocol_error")
    return received


async def test_a15_error_document_with_status_200(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.error(200, "InternalError"), key="film")
        received = await watch.get("/film")
        assert (received.status, received.error_code) == (502, "origin_protocol_error")
        fake.behave()
        assert (await watch.get("/film")).body == FILM  # nothing of it was kept
        await watch.leaves_no_memory(
            refused(502, "origin_protocol_error"), lambda _: faults.error(200, "InternalError")
        )


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.header("Content-Range", "bytes 0-499999/1048576"), id="other-range"),
        pytest.param(faults.header("Content-Range", "bytes 10-500009/9"), id="impossible-size"),
        pytest.param(faults.header("Content-Range", None), id="no-range"),
        pytest.param(faults.promised_length(+1), id="promises-more"),
        pytest.param(faults.promised_length(-1), id="promises-less"),
        pytest.param(faults.both_lengths(-7), id="shorter"),
        pytest.param(faults.both_lengths(+7), id="longer"),
        pytest.param(
            faults.all_of(faults.until_close, faults.body_length(-7)), id="no-length-and-shorter"
        ),
        pytest.param(
            faults.all_of(faults.chunked, faults.body_length(-7)), id="chunked-and-shorter"
        ),
        pytest.param(faults.header("ETag", None), id="no-version"),
    ],
)
async def test_a16_contradictions(fake: FakeS3, fault: Fault) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(fault, key="film")
        received = await unusable(watch)
        assert not (received.status == 206 and received.complete)
        await watch.probe()
        watch.again(served_or_not, lambda _: fault, **ALL_AT_ONCE)


@pytest.mark.parametrize("framing", [faults.chunked, faults.until_close])
async def test_a16_missing_length_and_all_bytes(fake: FakeS3, framing: Fault) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(framing, key="film")
        received = await unusable(watch)
        assert received.complete
        # Of facts alone, which a cache asks for as well, nothing is known without a length.
        watch.again(
            served, lambda _: lambda answer: framing(answer) if answer.status == 206 else answer
        )


WAYS_TO_SAY_A_RANGE: dict[str, Fault] = {
    "no-total": faults.no_total,
    "one-byte-more": faults.longer_range(1),
    "much-more": faults.longer_range(600_000),
    "much-more-chunked": lambda answer: (
        faults.chunked(faults.longer_range(600_000)(answer)) if answer.status == 206 else answer
    ),
    "no-bytes-beyond": faults.no_bytes_beyond,
}


@pytest.mark.parametrize("cache", [None, {"block_bytes": 64 << 10}], ids=["past", "cached"])
@pytest.mark.parametrize("name", WAYS_TO_SAY_A_RANGE)
async def test_a16_what_a_store_may_say_of_a_range(
    fake: FakeS3, name: str, cache: dict[str, Any] | None
) -> None:
    """No total, more than was asked for, nothing where nothing is left: all of it can be settled,
    each time.
    """
    async with watched(fake, cache=cache) as watch:
        watch.put("film", FILM, etag='"v1"')
        watch.put("empty", b"", etag='"none"')
        fault = WAYS_TO_SAY_A_RANGE[name]
        fake.misbehave(fault)
        for start, stop in [(10, 500_010), (0, 1), (MIB - 1, MIB), (0, MIB)]:
            received = await watch.get("/film", Range=f"bytes={start}-{stop - 1}")
            assert (received.status, received.complete) == (206, True)
            assert received.body == FILM[start:stop]
        assert (await watch.get("/film", Range="bytes=-7")).body == FILM[-7:]
        for beyond in (MIB, MIB + 5):
            received = await watch.get("/film", Range=f"bytes={beyond}-")
            assert (received.status, received.error_code) == (416, "range_not_satisfiable")
            assert received.headers["content-range"] == f"bytes */{MIB}"
        assert (await watch.get("/empty", Range="bytes=0-9")).status == 200
        await watch.counts(0, RETRIES)
        watch.again(served, lambda _: fault)


@pytest.mark.long
async def test_a16_repetitions(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        await watch.leaves_no_memory(
            refused(502, "origin_protocol_error"),
            lambda _: faults.header("Content-Range", "bytes 0-999/2008"),
        )


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a19_redirect(fake: FakeS3, method: str, status: int) -> None:
    async with FakeS3() as elsewhere, watched(fake) as watch:
        elsewhere.put("film", FILM)
        watch.put("film", FILM)
        fault = faults.redirect(status, f"{elsewhere.endpoint_url}/films/film")
        fake.misbehave(fault, key="film", method=None)
        received = await watch.get("/film", method=method)
        assert received.status == 502
        await watch.probe()
        code = "origin_refused" if status == 301 else "origin_protocol_error"
        watch.again(refused(502, code, method=method), lambda _: fault)
    assert elsewhere.requests == []


@pytest.mark.long
async def test_a19_repetitions(fake: FakeS3) -> None:
    async with FakeS3() as elsewhere, watched(fake) as watch:
        await watch.leaves_no_memory(
            refused(502, "origin_protocol_error"),
            lambda _: faults.redirect(307, f"{elsewhere.endpoint_url}/films/film"),
        )
        assert elsewhere.requests == []


METADATA = {
    "not-utf-8": "caf\xe9",
    "control-characters": "a\x01b\x7fc",
    "utf-8": "\xf0\x9f\x8e\xac",
    "20-kB": "x" * 20_000,
}


async def served_or_refused(watch: Watch, key: str) -> None:
    assert (await watch.get(f"/{key}", goes_on=False)).status in {200, 502}


@pytest.mark.parametrize("name", METADATA)
async def test_a20_metadata(fake: FakeS3, name: str) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fault = faults.header("x-amz-meta-title", METADATA[name])
        fake.misbehave(fault, key="film", method=None)
        received = await watch.get("/film")
        assert received.status in {200, 502}
        assert received.complete
        assert METADATA[name] not in str(received.headers)
        await watch.probe()
        watch.again(served_or_refused, lambda _: fault)


@pytest.mark.long
async def test_a20_repetitions(fake: FakeS3) -> None:
    values = itertools.cycle(METADATA.values())
    async with watched(fake) as watch:
        await watch.leaves_no_memory(
            served_or_refused, lambda _: faults.header("x-amz-meta-title", next(values))
        )
        await eventually(lambda: watch.app.acquired == 0)


@pytest.mark.parametrize("name", ["x-amz-checksum-crc32", "x-amz-checksum-sha256", "Content-MD5"])
async def test_a21_wrong_checksum(fake: FakeS3, name: str) -> None:
    """Third-party stores send the whole object's checksum with a range: it is not looked at."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.header(name, "AAAAAA=="), key="film", method=None)
        received = await watch.get("/film", Range="bytes=10-500009")
        assert (received.status, received.complete) == (206, True)
        assert name.lower() not in received.headers
        watch.again(served, lambda _: faults.header(name, "AAAAAA=="))
