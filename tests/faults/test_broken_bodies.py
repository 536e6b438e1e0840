"""A body that breaks at the origin: A1 to A5, A17, A18 and A22 of the fault catalogue."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from tests.fakes import faults
from tests.fakes.faults import Fault
from tests.fakes.s3 import FakeS3, SeenRequest
from tests.faults.invariants import DEADLINES, Received, Watch, watched
from tests.support import eventually

MIB = 1 << 20
FILM = random.Random(1).randbytes(4 * MIB)
OTHER = random.Random(2).randbytes(4 * MIB)
START, STOP = 1000, 1000 + 3 * MIB
OFFSETS = [0, 1, 64 * 1024 - 1, 1_500_000, STOP - START - 1]

PAUSES_SECONDS = 2.5
"""For the pauses before the attempts of one budget, and for a busy machine."""

BUDGET_SECONDS = (1 + DEADLINES["max_resumes"]) * DEADLINES["idle_seconds"] + PAUSES_SECONDS

RESUMES = "rangeserver_origin_resumes_total"
RESPONSES = "rangeserver_responses_total"


def gets(fake: FakeS3) -> list[SeenRequest]:
    return [request for request in fake.seen("GET") if request.key == "film"]


def asked(request: SeenRequest) -> tuple[int, int]:
    """The first and last byte that a request names."""
    first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return int(first), int(last)


async def resumed_once(fake: FakeS3, fault: Fault, offset: int) -> None:
    """One break is invisible: what is missing is asked for, of the same version."""
    async with watched(fake) as watch:
        etag = watch.put("film", FILM)
        fake.misbehave(fault, key="film", times=1)
        received = await watch.get("/film", Range=f"bytes={START}-{STOP - 1}")
        assert (received.status, received.complete) == (206, True)
        assert received.headers["content-range"] == f"bytes {START}-{STOP - 1}/{len(FILM)}"
        first, second = gets(fake)
        assert asked(first) == (START, STOP - 1)
        resumed_at, last = asked(second)
        # What aiohttp had not yet handed out when the connection broke is lost to us.
        assert START <= resumed_at <= START + offset
        assert resumed_at > START or offset < MIB
        assert last == STOP - 1
        assert second.headers["if-match"] == etag
        if offset < 2:  # where no byte arrived, the answer may count as one that never came
            again = watch.rose(RESUMES) + watch.rose("rangeserver_origin_retries_total")
            assert again == 1
        else:
            await watch.counts(1, RESUMES)
        await watch.counts(1, RESPONSES, outcome="complete", status="206", method="GET")


@pytest.mark.parametrize("offset", OFFSETS)
async def test_a01_fin_mid_body(fake: FakeS3, offset: int) -> None:
    await resumed_once(fake, faults.fin_after(offset), offset)


@pytest.mark.parametrize("offset", OFFSETS)
async def test_a02_reset_mid_body(fake: FakeS3, offset: int) -> None:
    await resumed_once(fake, faults.reset_after(offset), offset)


async def test_a01_a02_repetitions(fake: FakeS3) -> None:
    """Fewer of them: each waits for the pause before its resume, and asks the origin twice."""
    breaks = itertools.cycle((faults.fin_after(1000), faults.reset_after(1000)))
    async with watched(fake) as watch:

        async def once(key: str) -> None:
            received = await watch.get(f"/{key}", goes_on=False)
            assert received.complete

        await watch.leaves_no_memory(once, lambda: faults.every_other(next(breaks)), times=500)
        assert watch.rose(RESUMES) >= 500


async def test_a03_every_attempt_breaks(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.reset_after(2 * MIB), key="film", times=1)
        fake.misbehave(faults.fin_after(1000), key="film")
        received = await watch.get("/film")
        assert received.status == 200
        assert not received.complete
        assert received.was_reset
        assert received.seconds < BUDGET_SECONDS
        assert len(gets(fake)) == 1 + DEADLINES["max_resumes"]
        await watch.counts(DEADLINES["max_resumes"], RESUMES)
        await watch.counts(1, RESPONSES, outcome="origin_failed", status="200", method="GET")
        await watch.probe()


async def test_a03_repetitions(fake: FakeS3) -> None:
    """Fewer of them: each waits for the pauses between its attempts."""
    async with watched(fake, origin={"max_resumes": 1}) as watch:

        async def once(key: str) -> None:
            assert not (await watch.get(f"/{key}", goes_on=False)).complete

        # A part was sent before the first break, so that nothing can be answered but an abort.
        await watch.leaves_no_memory(
            once, lambda: faults.all_of(faults.drip(1000, 0.005), faults.fin_after(1001)), times=200
        )


async def test_a04_stall_mid_body_once(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(2 * MIB), key="film", times=1)
        running = asyncio.create_task(watch.get("/film"))
        await eventually(lambda: fake.stalled == 1)
        await watch.probe()
        received = await running
        assert received.complete
        assert received.seconds < BUDGET_SECONDS
        await watch.counts(1, RESUMES)


async def test_a04_stall_mid_body_for_good(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(2 * MIB), key="film", times=1)
        fake.misbehave(faults.stall_after(1000), key="film")
        running = asyncio.create_task(watch.get("/film"))
        await eventually(lambda: fake.stalled == 1)
        await watch.probe()
        received = await running
        assert not received.complete
        assert received.was_reset
        assert received.seconds < BUDGET_SECONDS
        await watch.counts(DEADLINES["max_resumes"], RESUMES)
        await watch.counts(1, RESPONSES, outcome="origin_failed", status="200", method="GET")


async def test_a05_drip(fake: FakeS3) -> None:
    """A byte now and then never makes an idle connection; the least rate catches it."""
    slow = {"min_bytes_per_second": 8192, "min_rate_window_seconds": 0.4}
    async with watched(fake, origin=slow) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.drip(1, 0.02), key="film", times=1)
        running = asyncio.create_task(watch.get("/film"))
        await eventually(lambda: fake.seen("GET") != [])
        await watch.probe()
        received = await running
        assert received.complete
        assert received.seconds < BUDGET_SECONDS
        await watch.counts(1, RESUMES)


async def stalled_film(watch: Watch) -> asyncio.Task[Received]:
    """A client in the middle of a film whose origin has stopped sending."""
    watch.put("film", FILM)
    watch.fake.misbehave(faults.stall_after(2 * MIB), key="film", times=1)
    running = asyncio.create_task(watch.get("/film"))
    await eventually(lambda: watch.fake.stalled == 1)
    return running


async def test_a17_new_version_mid_stream(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        running = await stalled_film(watch)
        watch.put("film", OTHER)
        received = await running
        assert not received.complete  # a prefix of the old version: get() has compared it
        assert received.was_reset
        assert len(received.body) <= 2 * MIB
        await watch.counts(1, RESPONSES, outcome="origin_failed", status="200", method="GET")
        fresh = await watch.get("/film")
        assert fresh.body == OTHER


async def test_a17_new_version_before_the_first_byte(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(0), key="film", times=1)
        running = asyncio.create_task(watch.get("/film", Range="bytes=5-999999"))
        await eventually(lambda: fake.stalled == 1)
        watch.put("film", OTHER)
        received = await running
        assert (received.status, received.complete) == (206, True)
        assert received.body == OTHER[5:1_000_000]


async def test_a17_new_version_between_two_requests(fake: FakeS3) -> None:
    """What is known of an object is out of date: the answer is of the new version all the same."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film", Range="bytes=0-99")).body == FILM[:100]
        watch.put("film", OTHER)
        assert (await watch.get("/film", Range="bytes=0-99")).body == OTHER[:100]


async def test_a18_deleted_mid_stream(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        running = await stalled_film(watch)
        fake.delete("film")
        received = await running
        assert not received.complete
        assert received.was_reset
        gone = await watch.get("/film")
        assert (gone.status, gone.error_code) == (404, "not_found")


async def test_a18_deleted_under_an_open_body(fake: FakeS3) -> None:
    """S3 finishes a body that it has begun, and so do we."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.after_doing(lambda: fake.delete("film")), key="film", times=1)
        assert (await watch.get("/film")).complete
        assert (await watch.get("/film")).status == 404


async def test_a22_corrupt_byte_passes_through(fake: FakeS3) -> None:
    """The limit of what can be known of a range without a digest; it harms nothing else."""
    async with watched(fake) as watch:
        etag = watch.put("film", FILM)
        corrupt = bytearray(FILM)
        corrupt[MIB] ^= 0xFF
        watch.versions[etag] = bytes(corrupt)
        fake.misbehave(faults.corrupted(MIB), key="film", times=1)
        assert (await watch.get("/film")).complete
        watch.versions[etag] = FILM
        assert (await watch.get("/film")).complete
