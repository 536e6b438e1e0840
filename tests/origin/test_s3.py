"""The S3 origin over the real client, against an origin that misbehaves."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rangeserver.config import Config
from rangeserver.errors import (
    AccessDenied,
    AccessHidden,
    CredentialsExpired,
    KeyRefused,
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginBusy,
    OriginClockSkew,
    OriginError,
    OriginProtocolError,
    OriginRefused,
    OriginServerError,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.origin.s3 import S3Origin
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER, Fault
from tests.fakes.s3 import FakeS3
from tests.origin.keys import ODD_KEYS
from tests.support import config_for, eventually, opened_origin

BODY = random.Random(1).randbytes(700_000)
KEY = ObjectKey("a.mp4")
SPAN = ByteSpan(1_000, 601_000)
OTHER_ETAG = '"00000000000000000000000000000000"'

# Deadlines that a test waits out, kept short; the tests that see one name it.
SOON = {"idle_seconds": 0.3}


Configure = Callable[..., Config]
"""A configuration that serves the fake, by what stands under ``[origin]``."""


@pytest.fixture(params=["per-object", "per-request"])
def configure(request: pytest.FixtureRequest, fake: FakeS3) -> Configure:
    """Whatever is tested here is so in both ways to sign."""

    def configured(origin: Mapping[str, Any] | None = None) -> Config:
        return config_for(fake, origin={"signing": request.param, **(origin or {})})

    return configured


async def read_into(
    received: bytearray, origin: S3Origin, facts: ObjectFacts, span: ByteSpan = SPAN
) -> None:
    async with origin.read(facts, span) as parts:
        async for part in parts:
            received += part


async def read(origin: S3Origin, facts: ObjectFacts, span: ByteSpan = SPAN) -> bytes:
    received = bytearray()
    await read_into(received, origin, facts, span)
    return bytes(received)


def with_object(fake: FakeS3) -> ObjectFacts:
    """Store the object and return its facts, so that a test needs no HEAD."""
    fake.put(KEY, BODY, etag='"v1"')
    return ObjectFacts(KEY, len(BODY), '"v1"')


# --- the good case


async def test_facts_are_those_of_the_object(fake: FakeS3, configure: Configure) -> None:
    fake.put(KEY, BODY, etag='"v1"', Cache_Control="max-age=60", Content_Language="ko")
    async with opened_origin(configure()) as opened:
        facts = await opened.origin.describe(KEY)
    assert facts == ObjectFacts(
        key=KEY,
        size=len(BODY),
        etag='"v1"',
        last_modified=1735689600,
        content_type="video/mp4",
        content_language="ko",
        cache_control="max-age=60",
    )


async def test_facts_of_an_empty_object(fake: FakeS3, configure: Configure) -> None:
    fake.put(KEY, b"")
    async with opened_origin(configure()) as opened:
        assert (await opened.origin.describe(KEY)).size == 0


@pytest.mark.parametrize(
    "span", [ByteSpan(0, 1), ByteSpan(0, len(BODY)), ByteSpan(len(BODY) - 1, len(BODY)), SPAN]
)
async def test_a_read_is_those_bytes(fake: FakeS3, configure: Configure, span: ByteSpan) -> None:
    facts = with_object(fake)
    async with opened_origin(configure()) as opened:
        assert await read(opened.origin, facts, span) == BODY[span.start : span.stop]


async def test_random_reads_are_those_bytes_on_one_connection(
    fake: FakeS3, configure: Configure
) -> None:
    facts = with_object(fake)
    dice = random.Random(2)
    async with opened_origin(configure()) as opened:
        for _ in range(40):
            start = dice.randrange(len(BODY))
            span = ByteSpan(start, dice.randint(start + 1, min(len(BODY), start + 200_000)))
            assert await read(opened.origin, facts, span) == BODY[span.start : span.stop]
        assert fake.open_connections == 1


async def test_every_read_names_its_version_and_range(fake: FakeS3, configure: Configure) -> None:
    facts = with_object(fake)
    async with opened_origin(configure()) as opened:
        await read(opened.origin, facts)
        await read(opened.origin, facts, ByteSpan(0, len(BODY)))
    assert [(seen.headers["if-match"], seen.headers["range"]) for seen in fake.seen("GET")] == [
        ('"v1"', "bytes=1000-600999"),
        ('"v1"', "bytes=0-699999"),
    ]


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("prefix", ["", "films/2024 +/"])
async def test_a_key_reaches_the_origin_as_it_is(
    fake: FakeS3, configure: Configure, key: str, prefix: str
) -> None:
    fake.put(prefix + key, b"bytes")
    async with opened_origin(configure({"prefix": prefix})) as opened:
        facts = await opened.origin.describe(ObjectKey(key))
        assert await read(opened.origin, facts, ByteSpan(1, 4)) == b"yte"
    assert facts.key == key
    assert [(seen.method, seen.key) for seen in fake.requests] == [
        ("HEAD", prefix + key),
        ("GET", prefix + key),
    ]


# --- answers that are refused before a byte of them is used

REFUSED: dict[str, tuple[Fault, type[OriginError]]] = {
    "Content-Length one less": (faults.promised_length(-1), OriginProtocolError),
    "Content-Length one more": (faults.promised_length(1), OriginProtocolError),
    "body and length one short": (faults.both_lengths(-1), OriginProtocolError),
    "body and length one long": (faults.both_lengths(1), OriginProtocolError),
    "other ETag": (faults.header("ETag", OTHER_ETAG), ObjectChanged),
    "weak ETag": (faults.header("ETag", 'W/"v1"'), ObjectChanged),
    "no ETag": (faults.header("ETag", None), OriginProtocolError),
    "Content-Range of other bytes": (
        faults.header("Content-Range", "bytes 0-599999/700000"),
        OriginProtocolError,
    ),
    "Content-Range of another size": (
        faults.header("Content-Range", "bytes 1000-600999/700001"),
        OriginProtocolError,
    ),
    "Content-Range that is none": (faults.header("Content-Range", "some"), OriginProtocolError),
    "no Content-Range": (faults.header("Content-Range", None), OriginProtocolError),
    "the whole object, 200": (faults.whole_object, OriginProtocolError),
    "the whole object, 200, chunked": (
        faults.all_of(faults.whole_object, faults.chunked),
        OriginProtocolError,
    ),
    "the whole object, chunked, with the Content-Range asked for": (
        faults.all_of(
            faults.whole_object,
            faults.chunked,
            faults.header("Content-Range", "bytes 1000-600999/700000"),
        ),
        OriginProtocolError,
    ),
    "an error document, 200": (
        faults.all_of(faults.error(200, "InternalError"), faults.header("ETag", '"v1"')),
        OriginProtocolError,
    ),
    "an error document, 200, no ETag": (faults.error(200, "InternalError"), OriginProtocolError),
    "an error document, 206": (faults.error(206, "InternalError"), OriginProtocolError),
    "no content": (faults.with_status(204), OriginProtocolError),
    "surprise Content-Encoding": (
        faults.header("Content-Encoding", "gzip"),
        OriginProtocolError,
    ),
    "chunks that are none": (
        faults.all_of(
            faults.header("Content-Length", None), faults.header("Transfer-Encoding", "chunked")
        ),
        OriginProtocolError,
    ),
    "header over 8190 bytes": (faults.header("X-Long", "x" * 9000), OriginProtocolError),
    "control character in a field": (faults.header("X-Odd", "a\x00b"), OriginProtocolError),
    "garbage status line": (faults.status_line("SIP/2.0 ?"), OriginProtocolError),
    "status that is none": (faults.status_line("HTTP/1.1 2x6 Odd"), OriginProtocolError),
    "malformed Content-Length": (faults.header("Content-Length", "many"), OriginProtocolError),
    "FIN before the header": (faults.fin_after(BEFORE_HEADER), OriginUnreachable),
    "RST before the header": (faults.reset_after(BEFORE_HEADER), OriginUnreachable),
    "stall before the header": (faults.stall_after(BEFORE_HEADER), OriginTimeout),
    "stall inside an error document": (
        faults.all_of(faults.error(403, "AccessDenied"), faults.stall_after(20)),
        OriginTimeout,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_answer_is_refused_before_its_first_byte(
    fake: FakeS3, configure: Configure, name: str
) -> None:
    fault, error = REFUSED[name]
    facts = with_object(fake)
    fake.misbehave(fault)
    async with opened_origin(configure(SOON)) as opened:
        received = bytearray()
        with pytest.raises(OriginError) as raised:
            await read_into(received, opened.origin, facts)
        assert type(raised.value) is error
        assert len(raised.value.detail) <= 500
        assert received == b""
        assert opened.acquired == 0
        # The connection went with the answer, unless that was complete.
        await eventually(lambda: fake.open_connections == opened.idle <= 1)
        fake.behave()
        assert await read(opened.origin, facts, ByteSpan(0, 9)) == BODY[:9]


ERRORS: dict[tuple[int, str], type[OriginError]] = {
    (404, "NoSuchKey"): ObjectNotFound,
    (403, "AccessDenied"): AccessDenied,
    (403, "InvalidObjectState"): AccessDenied,
    (412, "PreconditionFailed"): ObjectChanged,
    (416, "InvalidRange"): ObjectChanged,
    (404, "NoSuchBucket"): OriginRefused,
    (400, "ExpiredToken"): CredentialsExpired,
    (403, "SignatureDoesNotMatch"): OriginRefused,
    (403, "InvalidAccessKeyId"): CredentialsExpired,
    (403, "RequestTimeTooSkewed"): OriginClockSkew,
    (400, "AuthorizationHeaderMalformed"): OriginRefused,
    (503, "SlowDown"): OriginThrottled,
    (503, "ServiceUnavailable"): OriginThrottled,
    (429, "TooManyRequests"): OriginThrottled,
    (500, "InternalError"): OriginServerError,
    (502, "BadGateway"): OriginServerError,
    (504, "GatewayTimeout"): OriginTimeout,
    (501, "NotImplemented"): OriginProtocolError,
    (410, "Gone"): ObjectNotFound,
    (451, "UnavailableForLegalReasons"): AccessDenied,
    (400, "XMinioInvalidObjectName"): KeyRefused,
    (400, "KeyTooLongError"): KeyRefused,
    # Of this key alone, for another is answered.
    (400, "InvalidArgument"): KeyRefused,
    (400, "InvalidRequest"): AccessDenied,
    (405, "MethodNotAllowed"): KeyRefused,
    (418, "Teapot"): KeyRefused,
}


@pytest.mark.parametrize(("status", "code"), ERRORS)
async def test_an_error_of_s3_becomes_ours(
    fake: FakeS3, configure: Configure, status: int, code: str
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.error(status, code), times=1)
    async with opened_origin(configure()) as opened:
        with pytest.raises(OriginError) as raised:
            await read(opened.origin, facts)
        assert type(raised.value) is ERRORS[status, code]
        assert f"{status} {code}: It is {code}." in raised.value.detail
        assert opened.acquired == 0
        assert await read(opened.origin, facts, ByteSpan(0, 9)) == BODY[:9]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", None])
async def test_redirects_are_not_followed(
    fake: FakeS3, configure: Configure, status: int, method: str | None
) -> None:
    facts = with_object(fake)
    async with FakeS3() as elsewhere, opened_origin(configure()) as opened:
        elsewhere.put(KEY, BODY, etag='"v1"')
        target = f"{elsewhere.endpoint_url}/{fake.bucket}/{KEY}"
        fake.misbehave(faults.redirect(status, target), method=method)
        with pytest.raises((OriginProtocolError, OriginRefused)):
            await (read(opened.origin, facts) if method else opened.origin.describe(KEY))
        assert elsewhere.requests == []
        # Nor does botocore look for the bucket in another region.
        assert {seen.key for seen in fake.requests} == {KEY}
        assert len(fake.requests) <= 2


async def test_nobody_listens() -> None:
    async with FakeS3() as gone:
        config = config_for(gone)
    async with opened_origin(config) as opened:
        with pytest.raises(OriginUnreachable):
            await opened.origin.describe(KEY)


# --- answers that are odd and usable


@pytest.mark.parametrize(
    "fault",
    [
        faults.chunked,
        faults.until_close,
        faults.header("x-amz-meta-title", "caf\xe9"),
        faults.header("Content-Disposition", 'inline; filename="caf\xe9.mp4"'),
        faults.header("Expires", "never"),
        faults.body_length(7),  # extra bytes after the body
        faults.drip(50_000, 0.001),
        faults.header("x-amz-checksum-crc32", "AAAAAA=="),
    ],
)
async def test_an_odd_answer_is_used(fake: FakeS3, configure: Configure, fault: Fault) -> None:
    facts = with_object(fake)
    fake.misbehave(fault)
    async with opened_origin(configure()) as opened:
        for _ in range(3):
            assert await read(opened.origin, facts) == BODY[SPAN.start : SPAN.stop]
            assert opened.acquired == 0


async def test_the_whole_object_may_come_as_200(fake: FakeS3, configure: Configure) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.whole_object)
    async with opened_origin(configure()) as opened:
        assert await read(opened.origin, facts, ByteSpan(0, len(BODY))) == BODY


async def test_a_stored_content_encoding_is_passed_on_undecoded(
    fake: FakeS3, configure: Configure
) -> None:
    fake.put(KEY, b"not really gzip", Content_Encoding="gzip")
    async with opened_origin(configure()) as opened:
        facts = await opened.origin.describe(KEY)
        assert facts.content_encoding == "gzip"
        assert await read(opened.origin, facts, ByteSpan(4, 10)) == b"really"


# --- bodies that break


def broken_bodies() -> dict[str, Fault]:
    table: dict[str, Fault] = {}
    for offset in (0, 1, 65_536, SPAN.length // 2, SPAN.length - 1):
        table[f"FIN after {offset}"] = faults.fin_after(offset)
        table[f"RST after {offset}"] = faults.reset_after(offset)
        table[f"chunked, FIN after {offset}"] = faults.all_of(
            faults.chunked, faults.fin_after(offset)
        )
        table[f"until close, FIN after {offset}"] = faults.all_of(
            faults.until_close, faults.fin_after(offset)
        )
    for offset in (0, 300_000):
        table[f"stall after {offset}"] = faults.stall_after(offset)
    table["chunked, one short"] = faults.all_of(faults.body_length(-1), faults.chunked)
    table["until close, one short"] = faults.all_of(faults.body_length(-1), faults.until_close)
    table["no bytes after the header"] = faults.body_length(-SPAN.length)
    return table


@pytest.mark.parametrize("name", broken_bodies())
async def test_a_broken_body_never_ends_cleanly(
    fake: FakeS3, configure: Configure, name: str
) -> None:
    facts = with_object(fake)
    fake.misbehave(broken_bodies()[name], times=1)
    async with opened_origin(configure(SOON)) as opened:
        received = bytearray()
        with pytest.raises(OriginBodyError):
            await read_into(received, opened.origin, facts)
        assert len(received) < SPAN.length
        assert BODY.startswith(received, SPAN.start)
        assert opened.acquired == 0
        await eventually(lambda: fake.open_connections == opened.idle <= 1)
        assert await read(opened.origin, facts, ByteSpan(0, 9)) == BODY[:9]


@pytest.mark.parametrize("framing", [faults.chunked, faults.until_close])
@pytest.mark.parametrize("more", [1, 500_000])
async def test_a_body_that_runs_over_adds_no_byte(
    fake: FakeS3, configure: Configure, framing: Fault, more: int
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.all_of(faults.body_length(more), framing))
    async with opened_origin(configure()) as opened:
        received = bytearray()
        try:
            await read_into(received, opened.origin, facts)
        except OriginBodyError as error:
            assert "ran over" in error.detail  # noqa: PT017 (whether depends on the packets)
            assert BODY.startswith(received, SPAN.start)
        else:
            assert received == BODY[SPAN.start : SPAN.stop]


async def test_a_drip_below_the_minimum_rate_is_given_up(
    fake: FakeS3, configure: Configure
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.drip(1, 0.02))
    origin = {"min_bytes_per_second": 1024, "min_rate_window_seconds": 0.3}
    async with opened_origin(configure(origin)) as opened:
        received = bytearray()
        with pytest.raises(OriginBodyError, match="less than 1024 bytes per second"):
            await read_into(received, opened.origin, facts)
        assert BODY.startswith(received, SPAN.start)
        await eventually(lambda: fake.open_connections == 0)


async def test_a_slow_origin_above_the_minimum_rate_is_borne(
    fake: FakeS3, configure: Configure
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.drip(500, 0.02))
    origin = {"min_bytes_per_second": 1024, "min_rate_window_seconds": 0.1, **SOON}
    async with opened_origin(configure(origin)) as opened:
        assert await read(opened.origin, facts, ByteSpan(0, 10_000)) == BODY[:10_000]


async def test_a_reader_that_pauses_is_no_fault_of_the_origin(
    fake: FakeS3, configure: Configure
) -> None:
    facts = with_object(fake)
    origin = {"min_bytes_per_second": "10MB", "min_rate_window_seconds": 0.1, **SOON}
    async with opened_origin(configure(origin)) as opened:
        received = bytearray()
        async with opened.origin.read(facts, SPAN) as parts:
            received += await anext(parts)
            await asyncio.sleep(0.5)  # longer than each deadline of the origin
            async for part in parts:
                received += part
        assert received == BODY[SPAN.start : SPAN.stop]


# --- versions


async def test_a_replaced_object_is_not_read(fake: FakeS3, configure: Configure) -> None:
    facts = with_object(fake)
    fake.put(KEY, bytes(len(BODY)), etag='"v2"')
    async with opened_origin(configure()) as opened:
        with pytest.raises(ObjectChanged):
            await read(opened.origin, facts)


async def test_a_replaced_object_is_not_read_from_an_origin_that_ignores_if_match(
    fake: FakeS3,
    configure: Configure,
) -> None:
    facts = with_object(fake)
    fake.put(KEY, bytes(len(BODY)), etag='"v1"')
    fake.misbehave(faults.header("ETag", '"v2"'))
    async with opened_origin(configure()) as opened:
        with pytest.raises(ObjectChanged, match=r'asked for version "v1", got "v2"'):
            await read(opened.origin, facts)


async def test_a_deleted_object_is_not_found(fake: FakeS3, configure: Configure) -> None:
    facts = with_object(fake)
    fake.delete(KEY)
    async with opened_origin(configure()) as opened:
        with pytest.raises(ObjectNotFound):
            await read(opened.origin, facts)


async def test_an_object_that_shrank_has_changed(fake: FakeS3, configure: Configure) -> None:
    facts = with_object(fake)
    fake.put(KEY, b"short", etag='"v1"')
    async with opened_origin(configure()) as opened:
        with pytest.raises(ObjectChanged):
            await read(opened.origin, facts)


# --- describe

UNUSABLE_HEADS: dict[str, tuple[Fault, type[OriginError]]] = {
    "206": (faults.with_status(206), OriginProtocolError),
    "no ETag": (faults.header("ETag", None), OriginProtocolError),
    "an ETag that is none": (faults.header("ETag", "v1"), OriginProtocolError),
    "no size": (faults.header("Content-Length", None), OriginProtocolError),
    "malformed size": (faults.header("Content-Length", "-1"), OriginProtocolError),
    "garbage status line": (faults.status_line("ICY 200 OK"), OriginProtocolError),
    "SlowDown": (faults.error(503, "SlowDown"), OriginThrottled),
    "InternalError": (faults.error(500, "InternalError"), OriginServerError),
    "FIN": (faults.fin_after(BEFORE_HEADER), OriginUnreachable),
    "RST": (faults.reset_after(BEFORE_HEADER), OriginUnreachable),
    "stall": (faults.stall_after(BEFORE_HEADER), OriginTimeout),
}


@pytest.mark.parametrize("name", UNUSABLE_HEADS)
async def test_an_unusable_head_is_an_error(fake: FakeS3, configure: Configure, name: str) -> None:
    fault, error = UNUSABLE_HEADS[name]
    fake.put(KEY, BODY)
    fake.misbehave(fault, method="HEAD")
    async with opened_origin(configure(SOON)) as opened:
        with pytest.raises(OriginError) as raised:
            await opened.origin.describe(KEY)
        assert type(raised.value) is error
        assert opened.acquired == 0
        assert fake.seen("GET") == []


@pytest.mark.parametrize("name", ["Last-Modified", "x-amz-missing-meta"])
async def test_a_field_that_nobody_needs_may_be_malformed(fake: FakeS3, name: str) -> None:
    """Botocore is stricter with numbers: it reads all that it knows."""
    fake.put(KEY, BODY)
    fake.misbehave(faults.header(name, "odd"), method=None)
    async with opened_origin(config_for(fake)) as opened:
        facts = await opened.origin.describe(KEY)
        assert await read(opened.origin, facts, ByteSpan(0, 9)) == BODY[:9]
    assert (facts.size, facts.last_modified is None) == (len(BODY), name == "Last-Modified")
    async with opened_origin(config_for(fake, origin={"signing": "per-request"})) as opened:
        if name == "Last-Modified":
            assert await opened.origin.describe(KEY) == facts
        else:
            with pytest.raises(OriginProtocolError):
                await opened.origin.describe(KEY)


async def test_a_field_that_is_not_utf8_is_left_out(fake: FakeS3, configure: Configure) -> None:
    fake.put(KEY, BODY, Content_Disposition='inline; filename="caf\xe9"', x_amz_meta_a="\xff")
    facts = None
    async with opened_origin(configure({"max_connections": 1})) as opened:
        for _ in range(20):
            facts = await opened.origin.describe(KEY)
            assert await read(opened.origin, facts, ByteSpan(0, 9)) == BODY[:9]
            assert opened.acquired == 0
    assert facts is not None
    assert facts.content_disposition is None


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "NoSuchKey", ObjectNotFound),
        (404, "NoSuchBucket", OriginRefused),
        (403, "AccessDenied", AccessDenied),
        (403, "SignatureDoesNotMatch", OriginRefused),
        (403, "InvalidAccessKeyId", CredentialsExpired),
        (403, "RequestTimeTooSkewed", OriginClockSkew),
        (400, "ExpiredToken", CredentialsExpired),
        (301, "PermanentRedirect", OriginRefused),
    ],
)
async def test_describe_explains_a_head_without_a_code(
    fake: FakeS3, configure: Configure, status: int, code: str, error: type[OriginError]
) -> None:
    fake.misbehave(faults.error(status, code), method=None)
    async with opened_origin(configure()) as opened:
        with pytest.raises(OriginError) as raised:
            await opened.origin.describe(KEY)
    assert type(raised.value) is error
    assert code in raised.value.detail


async def test_another_bucket_is_not_a_missing_key(configure: Configure) -> None:
    async with opened_origin(configure({"bucket": "nowhere"})) as opened:
        with pytest.raises(OriginRefused, match="NoSuchBucket"):
            await opened.origin.describe(KEY)


async def test_a_missing_key_is_taken_at_its_word_while_the_bucket_is_known(
    fake: FakeS3,
    configure: Configure,
) -> None:
    async with opened_origin(configure()) as opened:
        for _ in range(3):
            with pytest.raises(ObjectNotFound):
                await opened.origin.describe(KEY)
    assert [seen.method for seen in fake.requests] == ["HEAD", "GET", "HEAD", "HEAD"]


async def test_a_found_object_proves_the_bucket(fake: FakeS3, configure: Configure) -> None:
    fake.put(KEY, BODY)
    async with opened_origin(configure()) as opened:
        await opened.origin.describe(KEY)
        with pytest.raises(ObjectNotFound):
            await opened.origin.describe(ObjectKey("other"))
    assert fake.seen("GET") == []


async def test_an_origin_that_refuses_only_heads_is_still_described(
    fake: FakeS3, configure: Configure
) -> None:
    fake.put(KEY, BODY, etag='"v1"')
    fake.misbehave(faults.error(403, "AccessDenied"), method="HEAD")
    async with opened_origin(configure()) as opened:
        facts = await opened.origin.describe(KEY)
        assert (facts.size, facts.etag) == (len(BODY), '"v1"')
        assert opened.acquired == 0


@pytest.mark.parametrize("fault", [faults.whole_object, faults.header("Content-Range", "odd")])
async def test_an_explanation_without_a_size_is_refused(
    fake: FakeS3, configure: Configure, fault: Fault
) -> None:
    fake.put(KEY, BODY)
    fake.misbehave(faults.error(403, "AccessDenied"), method="HEAD")
    fake.misbehave(fault)
    async with opened_origin(configure()) as opened:
        with pytest.raises(OriginProtocolError, match="size"):
            await opened.origin.describe(KEY)
        assert opened.acquired == 0


async def test_an_empty_object_that_refuses_heads_stays_refused(
    fake: FakeS3, configure: Configure
) -> None:
    fake.put(KEY, b"")
    fake.misbehave(faults.error(403, "AccessDenied"), method="HEAD")
    async with opened_origin(configure()) as opened:
        with pytest.raises(AccessDenied):
            await opened.origin.describe(KEY)


@pytest.mark.parametrize(
    ("code", "error"),
    [("AccessDenied", AccessHidden), ("SignatureDoesNotMatch", OriginRefused)],
)
async def test_forbidden_as_not_found_hides_denied_objects_only(
    fake: FakeS3, configure: Configure, code: str, error: type[OriginError]
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.error(403, code), method=None)
    config = configure({"forbidden_as_not_found": True})
    async with opened_origin(config) as opened:
        with pytest.raises(OriginError) as described:
            await opened.origin.describe(KEY)
        with pytest.raises(OriginError) as was_read:
            await read(opened.origin, facts)
    assert (type(described.value), type(was_read.value)) == (error, error)


# --- deadlines, slots, leaving


async def test_a_full_pool_is_busy_within_the_deadline(fake: FakeS3, configure: Configure) -> None:
    facts = with_object(fake)
    origin = {"max_connections": 2, "pool_wait_seconds": 0.3}
    async with opened_origin(configure(origin)) as opened:
        async with opened.origin.read(facts, SPAN), opened.origin.read(facts, SPAN):
            began = time.monotonic()
            with pytest.raises(OriginBusy, match="all 2 origin connections") as raised:
                await opened.origin.describe(KEY)
            assert 0.2 < time.monotonic() - began < 2
            assert raised.value.headers == {"Retry-After": "1"}
        assert opened.slots_in_use == 0
        assert (await opened.origin.describe(KEY)).size == len(BODY)


async def test_a_waiter_gets_the_slot_that_becomes_free(fake: FakeS3, configure: Configure) -> None:
    facts = with_object(fake)
    async with opened_origin(configure({"max_connections": 1})) as opened:
        async with opened.origin.read(facts, SPAN):
            waiter = asyncio.create_task(opened.origin.describe(KEY))
            await eventually(lambda: opened.origin.upstream.slots.full)
        assert (await waiter).size == len(BODY)


@pytest.mark.parametrize("when", ["while waiting", "as the slot is handed over"])
async def test_a_waiter_that_leaves_takes_no_slot_along(
    fake: FakeS3, configure: Configure, when: str
) -> None:
    facts = with_object(fake)
    async with opened_origin(configure({"max_connections": 1})) as opened:
        slots = opened.origin.upstream.slots
        async with opened.origin.read(facts, SPAN):
            waiter = asyncio.create_task(opened.origin.describe(KEY))
            await eventually(lambda: bool(slots._queue))
            if when == "while waiting":
                waiter.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiter
        # Here the slot has been promised to the waiter, which has not run since.
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert opened.slots_in_use == 0
        assert (await opened.origin.describe(KEY)).size == len(BODY)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_cancelling_while_the_header_is_awaited_closes_the_connection(
    fake: FakeS3, configure: Configure, method: str
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.stall_after(BEFORE_HEADER), method=method)
    async with opened_origin(configure()) as opened:
        origin = opened.origin
        asked = origin.describe(KEY) if method == "HEAD" else read(origin, facts)
        task: asyncio.Task[object] = asyncio.ensure_future(asked)
        await eventually(lambda: fake.stalled == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert opened.acquired == 0
        await eventually(lambda: fake.open_connections == 0)


async def test_cancelling_while_the_body_is_awaited_closes_the_connection(
    fake: FakeS3, configure: Configure
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.stall_after(100_000))
    async with opened_origin(configure()) as opened:
        received = bytearray()
        task = asyncio.create_task(read_into(received, opened.origin, facts))
        await eventually(lambda: len(received) == 100_000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert opened.acquired == 0
        await eventually(lambda: fake.open_connections == 0)


async def test_cancelling_at_any_moment_leaks_nothing(fake: FakeS3, configure: Configure) -> None:
    facts = with_object(fake)
    async with opened_origin(configure({"max_connections": 4})) as opened:
        await opened.origin.describe(KEY)
        for turns in range(60):
            task = asyncio.create_task(read(opened.origin, facts))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert opened.acquired == 0
        assert opened.slots_in_use == 0


@pytest.mark.parametrize("read_first", [False, True])
async def test_a_body_left_half_read_is_closed_not_drained(
    fake: FakeS3, configure: Configure, read_first: bool
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.stall_after(SPAN.length - 1))  # draining would never end
    async with opened_origin(configure()) as opened:
        async with opened.origin.read(facts, SPAN) as parts:
            if read_first:
                assert BODY.startswith(await anext(parts), SPAN.start)
        assert opened.acquired == 0
        await eventually(lambda: fake.open_connections == 0)


async def test_an_error_of_the_reader_closes_the_connection(
    fake: FakeS3, configure: Configure
) -> None:
    facts = with_object(fake)
    fake.misbehave(faults.stall_after(SPAN.length - 1))
    async with opened_origin(configure()) as opened:
        with pytest.raises(ZeroDivisionError):
            async with opened.origin.read(facts, SPAN):
                raise ZeroDivisionError
        assert opened.acquired == 0
        await eventually(lambda: fake.open_connections == 0)


async def test_a_failing_object_disturbs_no_other(fake: FakeS3, configure: Configure) -> None:
    """A hundred bad answers would empty a pool of two that lost one now and then."""
    facts = with_object(fake)
    fake.put("bad", BODY, etag='"v1"')
    bad = ObjectFacts(ObjectKey("bad"), len(BODY), '"v1"')
    for fault in (
        faults.header("ETag", None),
        faults.whole_object,
        faults.fin_after(10),
        faults.error(403, "AccessDenied"),
        faults.reset_after(BEFORE_HEADER),
    ):
        fake.misbehave(fault, key="bad", times=20)
    fake.misbehave(faults.reset_after(BEFORE_HEADER), key="bad")
    async with opened_origin(configure({"max_connections": 2})) as opened:
        for _ in range(20):
            results = await asyncio.gather(
                *(read(opened.origin, bad) for _ in range(5)),
                read(opened.origin, facts, ByteSpan(0, 9)),
                return_exceptions=True,
            )
            assert all(isinstance(result, OriginError) for result in results[:5])
            assert results[5] == BODY[:9]
