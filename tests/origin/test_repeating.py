"""Requests that fail and are made again: which, how often, how soon, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rangeserver.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginBusy,
    OriginError,
    OriginProtocolError,
    OriginRefused,
    OriginServerError,
    OriginSuspended,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
    RangeUnsatisfiable,
)
from rangeserver.metrics import Metrics
from rangeserver.origin.base import ReadReport, reporting
from rangeserver.origin.circuit import FAILURES_IN_A_ROW
from rangeserver.origin.deadlines import Deadlines
from rangeserver.origin.resuming import ResumingOrigin
from rangeserver.origin.retrying import MAX_TOKENS, TOKENS_PER_SUCCESS, RetryPolicy
from rangeserver.protocol.ranges import WHOLE, AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER, Fault
from tests.fakes.s3 import FakeS3
from tests.support import OpenedOrigin, config_for, eventually, opened_origin

BODY = bytes(range(256)) * 4_000
KEY = ObjectKey("film.mp4")
FACTS = ObjectFacts(KEY, len(BODY), '"v1"')
SPAN = ByteSpan(0, len(BODY))
AT_ONCE = {
    "max_attempts": 3,
    "max_resumes": 3,
    "min_pause_seconds": 0.0,
    "max_pause_seconds": 0.0,
}


class Course:
    """An origin that repeats, and what is counted of it."""

    def __init__(
        self, opened: OpenedOrigin, policy: Mapping[str, Any], answer_seconds: float
    ) -> None:
        self.opened = opened
        self._metrics = Metrics()
        self.tokens = opened.origin.upstream.retry_tokens
        self.origin = ResumingOrigin(
            opened.origin,
            RetryPolicy(**{**AT_ONCE, **policy}),
            Deadlines(answer_seconds),
            tokens=self.tokens,
            metrics=self._metrics.origin,
        )

    async def describe(self) -> object:
        return await self.origin.describe(KEY)

    async def open(self, wanted: AskedRange = WHOLE) -> bytes:
        async with self.origin.open(KEY, wanted) as opened:
            assert opened.begun is not None
            return b"".join([part async for part in opened.begun.parts])

    async def read(self) -> bytes:
        async with self.origin.read(FACTS, SPAN) as parts:
            return b"".join([part async for part in parts])

    @property
    def retries(self) -> dict[str, float]:
        found = scrape(self._metrics).named("rangeserver_origin_retries_total")
        return {dict(labels)["reason"]: count for labels, count in found.items()}


@asynccontextmanager
async def course(
    fake: FakeS3,
    origin: Mapping[str, Any] | None = None,
    *,
    answer_seconds: float = 10.0,
    **policy: Any,
) -> AsyncIterator[Course]:
    fake.put(KEY, BODY, etag='"v1"')
    async with opened_origin(config_for(fake, origin=origin)) as opened:
        yield Course(opened, policy, answer_seconds)


# --- which, and how often

REPEATED: dict[str, tuple[Fault, type[OriginError], str]] = {
    "500": (faults.error(500, "InternalError"), OriginServerError, "server_error"),
    "502": (faults.error(502, "BadGateway"), OriginServerError, "server_error"),
    "503": (faults.error(503, "SlowDown"), OriginThrottled, "throttled"),
    "429": (faults.error(429, "TooManyRequests"), OriginThrottled, "throttled"),
    "504": (faults.error(504, "GatewayTimeout"), OriginTimeout, "timeout"),
    "FIN": (faults.fin_after(BEFORE_HEADER), OriginUnreachable, "unreachable"),
    "RST": (faults.reset_after(BEFORE_HEADER), OriginUnreachable, "unreachable"),
    "silence": (faults.stall_after(BEFORE_HEADER), OriginTimeout, "timeout"),
}

WAYS: dict[str, Callable[[Course], Any]] = {
    "describe": Course.describe,
    "open": Course.open,
    "read": Course.read,
}


@pytest.mark.parametrize("signing", ["per-object", "per-request"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", REPEATED)
async def test_what_may_pass_is_asked_for_again_and_no_more_than_allowed(
    fake: FakeS3, name: str, way: str, signing: str
) -> None:
    fault, error, reason = REPEATED[name]
    fake.misbehave(fault, method=None)
    async with course(fake, {"idle_seconds": 0.1, "signing": signing}) as driven:
        with pytest.raises(OriginError) as raised:
            await WAYS[way](driven)
        assert type(raised.value) is error
        assert len(fake.requests) == 3
        assert driven.retries == {reason: 2}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", REPEATED)
async def test_a_failure_that_passes_is_not_seen(fake: FakeS3, name: str, way: str) -> None:
    fault, _, reason = REPEATED[name]
    fake.misbehave(fault, method=None, times=2)
    async with course(fake, {"idle_seconds": 0.1}) as driven:
        await WAYS[way](driven)
        assert len(fake.requests) == 3
        assert driven.retries == {reason: 2}


@pytest.mark.parametrize("signing", ["per-object", "per-request"])
@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("ending", [faults.fin_after, faults.reset_after])
async def test_a_kept_connection_that_ended_costs_an_attempt(
    fake: FakeS3, ending: Callable[[int], Fault], attempts: int, signing: str
) -> None:
    """Nobody below repeats on its own, as aiohttp would."""
    async with course(fake, {"signing": signing}, max_attempts=attempts) as driven:
        assert await driven.read() == BODY
        assert driven.opened.idle == 1
        fake.misbehave(ending(BEFORE_HEADER), times=1)
        if attempts == 1:
            with pytest.raises(OriginUnreachable):
                await driven.read()
        else:
            assert await driven.read() == BODY
        assert len(fake.requests) == 1 + attempts


NOT_REPEATED: dict[str, tuple[Fault, type[OriginError]]] = {
    "404": (faults.error(404, "NoSuchKey"), ObjectNotFound),
    "403": (faults.error(403, "AccessDenied"), AccessDenied),
    "412": (faults.error(412, "PreconditionFailed"), ObjectChanged),
    "400": (faults.error(400, "AuthorizationHeaderMalformed"), OriginRefused),
    "301": (faults.error(301, "PermanentRedirect"), OriginRefused),
    "no such bucket": (faults.error(404, "NoSuchBucket"), OriginRefused),
    "garbage": (faults.status_line("ICY 200 OK"), OriginProtocolError),
    "other bytes": (faults.header("Content-Range", "bytes 0-1/2"), OriginProtocolError),
    "no ETag": (faults.header("ETag", None), OriginProtocolError),
}


async def open_range(driven: Course) -> bytes:
    return await driven.open(AskedRange(0, 99))


@pytest.mark.parametrize("way", [open_range, Course.read])
@pytest.mark.parametrize("name", NOT_REPEATED)
async def test_what_would_only_fail_again_is_not_repeated(
    fake: FakeS3, name: str, way: Callable[[Course], Any]
) -> None:
    fault, error = NOT_REPEATED[name]
    fake.misbehave(fault)
    async with course(fake) as driven:
        with pytest.raises(error):
            await way(driven)
        assert len(fake.requests) == 1
        assert driven.retries == {}


async def test_a_range_beyond_the_end_is_not_repeated(fake: FakeS3) -> None:
    async with course(fake) as driven:
        with pytest.raises(RangeUnsatisfiable) as raised:
            await driven.open(AskedRange(10_000_000, None))
        assert raised.value.size == len(BODY)
        assert len(fake.requests) == 1


async def test_a_full_pool_is_not_asked_again(fake: FakeS3) -> None:
    """Who waited for as long as one may wait would only begin to wait again."""
    async with course(fake, {"max_connections": 1, "pool_wait_seconds": 0.05}) as driven:
        async with driven.origin.read(FACTS, SPAN):
            with pytest.raises(OriginBusy):
                await driven.read()
        assert driven.retries == {}


async def test_an_open_circuit_is_not_asked_again(fake: FakeS3) -> None:
    async with course(fake) as driven:
        await fake.refuse()
        for _ in range(FAILURES_IN_A_ROW):
            with pytest.raises(OriginUnreachable):
                await driven.read()
        retries = driven.retries
        assert retries["unreachable"] < 2 * FAILURES_IN_A_ROW
        for _ in range(5):
            with pytest.raises(OriginSuspended):
                await driven.read()
        assert driven.retries == retries
        await fake.listen()


# --- for how long


async def test_one_deadline_is_that_of_all_attempts(fake: FakeS3) -> None:
    fake.misbehave(faults.stall_after(BEFORE_HEADER))
    idle = {"idle_seconds": 0.1}
    async with course(fake, idle, max_attempts=10, answer_seconds=0.4) as driven:
        began = time.monotonic()
        with pytest.raises(OriginTimeout):
            await driven.read()
        assert 0.3 < time.monotonic() - began < 2
        assert 2 <= len(fake.requests) <= 5
        await eventually(lambda: fake.open_connections == 0)
        assert driven.opened.acquired == 0


@pytest.mark.parametrize("way", WAYS)
async def test_silence_ends_with_the_deadline(fake: FakeS3, way: str) -> None:
    fake.misbehave(faults.stall_after(BEFORE_HEADER), method=None)
    async with course(fake, answer_seconds=0.1) as driven:
        with pytest.raises(OriginTimeout, match=r"no answer within 0\.1 s"):
            await WAYS[way](driven)
        assert driven.opened.slots_in_use == 0
        await eventually(lambda: fake.open_connections == 0)


async def test_the_wait_for_a_place_counts_too(fake: FakeS3) -> None:
    origin = {"max_connections": 1, "pool_wait_seconds": 5}
    async with course(fake, origin, answer_seconds=0.4) as driven:
        async with driven.origin.read(FACTS, SPAN):
            with pytest.raises(OriginTimeout):
                await driven.read()
        assert driven.opened.slots_in_use == 0


async def test_a_deadline_in_a_later_attempt_tells_of_the_failure_before(fake: FakeS3) -> None:
    fake.misbehave(faults.error(500, "InternalError"), times=1)
    fake.misbehave(faults.stall_after(BEFORE_HEADER))
    async with course(fake, answer_seconds=0.4) as driven:
        with pytest.raises(OriginServerError):
            await driven.read()
        assert len(fake.requests) == 2


async def test_a_pause_beyond_the_deadline_is_not_begun(fake: FakeS3) -> None:
    fake.misbehave(faults.error(500, "InternalError"))
    async with course(fake, min_pause_seconds=60, max_pause_seconds=60) as driven:
        with pytest.raises(OriginServerError):
            await driven.read()
        assert len(fake.requests) == 1
        assert driven.retries == {}


async def test_a_body_may_take_longer_than_its_answer(fake: FakeS3) -> None:
    fake.misbehave(faults.drip(300_000, 0.1))  # the answer and its first part, and three more
    async with course(fake, answer_seconds=0.15) as driven:
        assert await driven.read() == BODY
        assert await driven.open() == BODY


async def test_leaving_during_a_pause_ends_it(fake: FakeS3) -> None:
    fake.misbehave(faults.error(500, "InternalError"))
    async with course(
        fake, min_pause_seconds=60, max_pause_seconds=60, answer_seconds=600
    ) as driven:
        reading = asyncio.create_task(driven.read())
        await eventually(lambda: driven.retries == {"server_error": 1})
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert len(fake.requests) == 1


# --- all together


async def test_an_origin_that_fails_everybody_soon_gets_one_request_for_each(
    fake: FakeS3,
) -> None:
    fake.misbehave(faults.error(500, "InternalError"))
    asked = 150
    async with course(fake) as driven:
        for _ in range(asked):
            with pytest.raises(OriginServerError):
                await driven.read()
        assert len(fake.requests) == asked + MAX_TOKENS
        # The last ones were asked for once.
        before = len(fake.requests)
        for _ in range(20):
            with pytest.raises(OriginServerError):
                await driven.read()
        assert len(fake.requests) - before == 20
        fake.behave()
        for _ in range(10):
            assert await driven.describe() == FACTS_AS_TOLD
        fake.misbehave(faults.error(500, "InternalError"), times=1)
        assert await driven.read() == BODY


FACTS_AS_TOLD = ObjectFacts(
    KEY, len(BODY), '"v1"', last_modified=1735689600, content_type="video/mp4"
)


def without_tokens(driven: Course) -> None:
    while driven.tokens.take(OriginUnreachable()):
        pass


async def test_without_tokens_a_broken_body_is_not_continued(fake: FakeS3) -> None:
    """Not even once: a hundred viewers of an origin that fails would double its requests."""
    fake.misbehave(faults.fin_after(1000))
    async with course(fake, turn_seconds=0.0) as driven:
        without_tokens(driven)
        with pytest.raises(OriginBodyError):
            await driven.read()
        assert len(fake.requests) == 1


async def test_a_broken_body_waits_for_tokens(fake: FakeS3) -> None:
    """Others are served, which tells that the origin is well after all."""
    fake.misbehave(faults.fin_after(1000), times=1)
    async with course(fake, turn_seconds=600.0, max_pause_seconds=0.001) as driven:
        without_tokens(driven)
        reading = asyncio.create_task(driven.read())
        await eventually(lambda: len(fake.requests) == 1 and not fake.open_connections)
        while not reading.done():
            await driven.describe()
        assert await reading == BODY
        assert len(fake.seen("GET")) == 2
        assert len(fake.seen("HEAD")) >= 1 / TOKENS_PER_SUCCESS


async def test_heads_alone_earn_nothing(fake: FakeS3) -> None:
    """An origin whose bodies never come is not asked more often for having answered."""
    fake.misbehave(faults.fin_after(1000))
    async with course(fake, turn_seconds=0.0) as driven:
        without_tokens(driven)
        for way in (driven.read, driven.open):
            for _ in range(10):
                with pytest.raises(OriginBodyError):
                    await way()
        assert len(fake.requests) == 20


async def test_a_retry_that_was_worth_it_costs_nothing(fake: FakeS3) -> None:
    """A failure that passes each time may be repeated for ever."""
    fake.misbehave(faults.every_other(faults.error(500, "InternalError")))
    async with course(fake) as driven:
        for _ in range(2 * round(MAX_TOKENS)):
            await driven.read()
        assert len(fake.requests) == 4 * MAX_TOKENS
        assert driven.tokens.take(OriginUnreachable())


# --- bodies


@pytest.mark.parametrize("way", ["open", "read"])
@pytest.mark.parametrize("name", REPEATED)
async def test_a_resume_is_one_request(fake: FakeS3, name: str, way: str) -> None:
    """The attempts of a request do not multiply those of a body."""
    fake.misbehave(faults.fin_after(1000), times=1)
    fake.misbehave(REPEATED[name][0])
    report = ReadReport()
    async with course(fake, {"idle_seconds": 0.1}, max_resumes=2) as driven:
        with pytest.raises(REPEATED[name][1]), reporting(report):
            await WAYS[way](driven)
        assert len(fake.requests) == 3
        assert driven.retries == {}
    assert report.resumes == 2


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (WHOLE, BODY),
        (AskedRange(1_000, 900_000), BODY[1_000:900_001]),
        (AskedRange(1_000, None), BODY[1_000:]),
        (AskedRange(None, 900_000), BODY[-900_000:]),
    ],
)
async def test_an_opened_body_is_continued(
    fake: FakeS3, wanted: AskedRange, expected: bytes
) -> None:
    fake.misbehave(faults.fin_after(500_000), times=1)
    async with course(fake) as driven:
        assert await driven.open(wanted) == expected
    first, second = fake.requests
    assert first.headers.get("range") == (None if wanted == WHOLE else wanted.range_header())
    assert second.headers["if-match"] == '"v1"'


async def test_silence_while_resuming_ends_with_the_deadline(fake: FakeS3) -> None:
    fake.misbehave(faults.fin_after(1000), times=1)
    fake.misbehave(faults.stall_after(BEFORE_HEADER))
    brief = {"response_seconds": 0.3}
    async with course(fake, brief, max_resumes=2) as driven:
        with pytest.raises(OriginTimeout, match=r"no answer within 0\.3 s"):
            await driven.read()
        assert len(fake.requests) == 3


# --- versions


async def test_a_replaced_version_is_read_to_its_end(fake: FakeS3) -> None:
    fake.versioned = True
    fake.misbehave(
        faults.after_doing(
            lambda: fake.put(KEY, bytes(len(BODY)), etag='"v2"'), faults.fin_after(500_000)
        ),
        times=1,
    )
    async with course(fake, {"use_version_ids": True}) as driven:
        assert await driven.open() == BODY
        first, second = fake.requests
        assert "versionId" not in first.path
        assert second.path == "/films/film.mp4?versionId=v0"
        assert second.headers["if-match"] == '"v1"'
        # Whoever comes now gets the new one.
        assert await driven.open() == bytes(len(BODY))


async def test_a_deleted_version_is_read_to_its_end(fake: FakeS3) -> None:
    fake.versioned = True
    async with course(fake, {"use_version_ids": True}) as driven:
        fake.misbehave(
            faults.after_doing(lambda: fake.delete(KEY), faults.fin_after(500_000)), times=1
        )
        assert await driven.open() == BODY
        with pytest.raises(ObjectNotFound):
            await driven.open()


async def test_without_version_ids_it_is_an_error(fake: FakeS3) -> None:
    fake.versioned = True
    async with course(fake) as driven:
        fake.misbehave(
            faults.after_doing(
                lambda: fake.put(KEY, bytes(len(BODY)), etag='"v2"'), faults.fin_after(500_000)
            ),
            times=1,
        )
        with pytest.raises(ObjectChanged):
            await driven.open()
        assert all("versionId" not in seen.path for seen in fake.requests)


async def test_a_version_that_is_deleted_for_good_is_an_error(fake: FakeS3) -> None:
    fake.versioned = True
    async with course(fake, {"use_version_ids": True}) as driven:
        fake.misbehave(faults.after_doing(fake._versions.clear, faults.fin_after(500_000)), times=1)
        with pytest.raises(ObjectNotFound, match="NoSuchVersion"):
            await driven.open()


async def test_a_bucket_without_versions_is_read_without(fake: FakeS3) -> None:
    async with course(fake, {"use_version_ids": True}) as driven:
        fake.put(KEY, BODY, etag='"v1"', x_amz_version_id="null")
        fake.misbehave(faults.fin_after(500_000), times=1)
        assert await driven.open() == BODY
        assert [seen.path for seen in fake.requests] == ["/films/film.mp4"] * 2
