"""Bodies that break at the origin and arrive whole, through the real S3 path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from rangeserver.config import Config
from rangeserver.errors import (
    AccessDenied,
    ObjectChanged,
    OriginBodyError,
    OriginError,
    OriginTimeout,
)
from rangeserver.origin.base import ReadReport, reporting
from rangeserver.origin.resuming import ResumingOrigin
from rangeserver.origin.retrying import PROGRESS_BYTES, RetryPolicy
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectKey
from tests.fakes import faults
from tests.fakes.faults import Fault
from tests.fakes.s3 import FakeS3
from tests.support import OpenedOrigin, config_for, eventually, opened_origin

FILM = bytes(range(256)) * 12_288  # 3 MiB
KEY = ObjectKey("film.mp4")
WHOLE = ByteSpan(0, len(FILM))
AT_ONCE = RetryPolicy(max_attempts=1, max_resumes=3, min_pause_seconds=0.0, max_pause_seconds=0.0)
SHORTLY = {"idle_seconds": 0.3, "response_seconds": 10.0}


@pytest.fixture
def config(fake: FakeS3) -> Config:
    fake.put(KEY, FILM)
    return config_for(fake, origin=SHORTLY)


@asynccontextmanager
async def resuming(
    config: Config, policy: RetryPolicy = AT_ONCE
) -> AsyncIterator[tuple[ResumingOrigin, OpenedOrigin]]:
    async with opened_origin(config) as opened:
        yield ResumingOrigin(opened.origin, policy, opened.origin.upstream.deadlines), opened


async def read(origin: ResumingOrigin, span: ByteSpan) -> tuple[bytes, OriginError | None]:
    """What arrives of a span, and the error that ended it."""
    received = bytearray()
    try:
        facts = await origin.describe(KEY)
        async with origin.read(facts, span) as parts:
            async for part in parts:
                received += part
    except OriginError as error:
        return bytes(received), error
    return bytes(received), None


async def append_all(parts: AsyncIterator[bytes], received: bytearray) -> None:
    async for part in parts:
        received += part


OFFSETS = [0, 1, 65_535, 65_536, 1_000_000, 1_899_999]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(
    "broken",
    [faults.fin_after, faults.reset_after, faults.stall_after],
    ids=["FIN", "RST", "stall"],
)
async def test_a_body_that_breaks_once_is_continued_at_the_next_byte(
    broken: Callable[[int], Fault], offset: int, fake: FakeS3, config: Config
) -> None:
    fake.misbehave(broken(offset), times=1)
    span = ByteSpan(100_000, 2_000_000)
    report = ReadReport()
    # One that broke before anything of it came has not begun: that is another attempt at it.
    twice = replace(AT_ONCE, max_attempts=2)
    async with resuming(config, twice) as (origin, _):
        with reporting(report):
            received, error = await read(origin, span)
    assert error is None
    assert received == FILM[100_000:2_000_000]
    first, second = fake.seen("GET")
    assert first.headers["range"] == "bytes=100000-1999999"
    position = int(second.headers["range"].removeprefix("bytes=").removesuffix("-1999999"))
    # A reset may take along what was on its way; nothing may be skipped or come twice.
    assert 100_000 <= position <= 100_000 + offset
    assert second.headers["if-match"] == first.headers["if-match"] != ""
    assert report.resumes == 1


async def test_a_dripping_body_is_continued_elsewhere(fake: FakeS3) -> None:
    fake.put(KEY, FILM)
    slow = {"min_bytes_per_second": 10_000, "min_rate_window_seconds": 0.2}
    fake.misbehave(faults.drip(1, 0.05), times=1)
    async with resuming(config_for(fake, origin=slow)) as (origin, _):
        assert await read(origin, WHOLE) == (FILM, None)
    assert len(fake.seen("GET")) == 2


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(503, "SlowDown"),
        faults.error(500, "InternalError"),
        faults.stall_after(faults.BEFORE_HEADER),
        faults.fin_after(faults.BEFORE_HEADER),
        faults.header("Content-Range", "bytes 0-1/2"),
        faults.whole_object,
    ],
)
async def test_an_answer_that_fails_while_resuming_counts_as_an_attempt(
    fault: Fault, fake: FakeS3, config: Config
) -> None:
    fake.misbehave(faults.fin_after(1_000_000), times=1)
    fake.misbehave(fault, times=1)
    async with resuming(config) as (origin, _):
        assert await read(origin, WHOLE) == (FILM, None)
    assert len(fake.seen("GET")) == 3


async def test_the_budget_ends_a_body_that_always_breaks(fake: FakeS3, config: Config) -> None:
    fake.misbehave(faults.fin_after(1000))
    async with resuming(config) as (origin, _):
        received, error = await read(origin, WHOLE)
    assert isinstance(error, OriginBodyError)
    assert received == FILM[: len(received)]
    assert len(received) == 4000
    assert len(fake.seen("GET")) == 1 + AT_ONCE.max_resumes


async def test_progress_restores_the_budget(fake: FakeS3, config: Config) -> None:
    film = bytes(range(256)) * 4096 * 8
    fake.put(KEY, film)
    fake.misbehave(faults.fin_after(PROGRESS_BYTES))
    async with resuming(config) as (origin, _):
        assert await read(origin, ByteSpan(0, len(film))) == (film, None)
    assert len(fake.seen("GET")) == len(film) // PROGRESS_BYTES > 1 + AT_ONCE.max_resumes


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.error(412, "PreconditionFailed"), ObjectChanged),
        (faults.error(403, "AccessDenied"), AccessDenied),
    ],
)
async def test_what_cannot_get_better_ends_the_body_at_once(
    fault: Fault, kind: type[OriginError], fake: FakeS3, config: Config
) -> None:
    fake.misbehave(faults.fin_after(1_000_000), times=1)
    fake.misbehave(fault)
    async with resuming(config) as (origin, _):
        received, error = await read(origin, WHOLE)
    assert type(error) is kind
    assert received == FILM[: len(received)]
    assert len(fake.seen("GET")) == 2


async def test_a_new_version_is_never_mixed_in(fake: FakeS3, config: Config) -> None:
    fake.misbehave(faults.fin_after(1_000_000), times=1)
    async with resuming(config) as (origin, _):
        facts = await origin.describe(KEY)
        received = bytearray()
        async with origin.read(facts, WHOLE) as parts:
            received += await anext(parts)
            fake.put(KEY, bytes(len(FILM)))
            with pytest.raises(ObjectChanged):
                await append_all(parts, received)
    assert received == FILM[: len(received)]


async def test_an_origin_that_fails_before_the_first_byte_is_not_resumed(
    fake: FakeS3, config: Config
) -> None:
    fake.misbehave(faults.stall_after(faults.BEFORE_HEADER))
    async with resuming(config) as (origin, _):
        received, error = await read(origin, WHOLE)
    assert received == b""
    assert isinstance(error, OriginTimeout)
    assert len(fake.seen("GET")) == 1


async def test_the_broken_connection_is_closed_before_the_next_is_opened(fake: FakeS3) -> None:
    """With one connection allowed, a resume would wait for ever for its own predecessor."""
    fake.put(KEY, FILM)
    fake.misbehave(faults.stall_after(500_000), times=1)
    one = config_for(fake, origin={**SHORTLY, "max_connections": 1})
    async with resuming(one) as (origin, _):
        assert await read(origin, WHOLE) == (FILM, None)


async def test_leaving_during_a_pause_leaves_nothing_open(fake: FakeS3, config: Config) -> None:
    fake.misbehave(faults.fin_after(1000), times=1)
    patient = RetryPolicy(max_attempts=1, max_resumes=3, min_pause_seconds=60, max_pause_seconds=60)
    async with opened_origin(config) as opened:
        origin = ResumingOrigin(opened.origin, patient, opened.origin.upstream.deadlines)
        reading = asyncio.create_task(read(origin, WHOLE))
        await eventually(lambda: len(fake.seen("GET")) == 1 and fake.open_connections == 0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert len(fake.seen("GET")) == 1


async def test_pauses_grow_at_random_within_their_bounds(fake: FakeS3, config: Config) -> None:
    bounds: list[tuple[float, float]] = []

    def longest(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    fake.misbehave(faults.fin_after(1000))
    policy = RetryPolicy(
        max_attempts=1,
        max_resumes=4,
        min_pause_seconds=0.001,
        max_pause_seconds=0.008,
    )
    async with opened_origin(config) as opened:
        deadlines = opened.origin.upstream.deadlines
        origin = ResumingOrigin(opened.origin, policy, deadlines, uniform=longest)
        _, error = await read(origin, WHOLE)
    assert isinstance(error, OriginBodyError)
    assert [low for low, _ in bounds] == [0.001] * 4
    assert [high for _, high in bounds] == pytest.approx([0.003, 0.009, 0.024, 0.024])


async def test_a_body_read_to_its_end_leaves_its_connection_for_the_next(
    fake: FakeS3, config: Config
) -> None:
    async with resuming(config) as (origin, _):
        for _ in range(5):
            assert (await read(origin, ByteSpan(5, 70_000)))[1] is None
        assert fake.open_connections == 1
