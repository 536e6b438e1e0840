"""A body that breaks at the origin: A1 to A5, A17, A18 and A22 of the fault catalogue."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
from collections.abc import Callable

import pytest

from tests.fakes import faults
from tests.fakes.faults import Fault
from tests.fakes.s3 import FakeS3, SeenRequest
from tests.faults.invariants import DEADLINES, SHORT, Watch, watched
from tests.faults.leaks import PER_ROUND
from tests.faults.repeating import ALL_AT_ONCE, FEW_ATTEMPTS, STALLING, FaultFor, aborted
from tests.faults.responses import Received
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("way")

MIB = 1 << 20
FILM = random.Random(1).randbytes(4 * MIB)
OTHER = random.Random(2).randbytes(4 * MIB)
START, STOP = 1000, 1000 + 3 * MIB
OFFSETS = [0, 1, 64 * 1024 - 1, 1_500_000, STOP - START - 1]

PAUSES_SECONDS = 2.5
"""For the pauses before the attempts of one budget, and for a busy machine."""

BUDGET_SECONDS = (1 + DEADLINES["max_resumes"]) * SHORT["idle_seconds"] + PAUSES_SECONDS

RESUMES = "rangeserver_origin_resumes_total"
RESPONSES = "rangeserver_responses_total"


A_PART = faults.drip(1000, 0.005)
"""Something is sent, so that nothing can be answered any more but an abort."""

BROKEN = faults.all_of(A_PART, faults.fin_after(1001))
STALLED = faults.all_of(A_PART, faults.stall_after(1001))

VERSIONS = FILM[:2000], OTHER[:2000]


def another_version(watch: Watch, key: str) -> bytes:
    """Replace the object; its new body is returned."""
    body = VERSIONS[watch.versions[watch.fake.etag(key)] == VERSIONS[0]]
    watch.put(key, body)
    return body


def broken_after(action: Callable[[str], object], broken: Fault = BROKEN) -> FaultFor:
    """Do something to the object before its body breaks."""
    return lambda key: faults.when_good(faults.after_doing(functools.partial(action, key), broken))


def gets(fake: FakeS3) -> list[SeenRequest]:
    return [request for request in fake.seen("GET") if request.key == "film"]


def asked(request: SeenRequest) -> tuple[int, int]:
    """The first and last byte that a request names."""
    first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    return int(first), int(last)


async def complete(watch: Watch, key: str) -> None:
    assert (await watch.get(f"/{key}", goes_on=False)).complete


async def resumed_once(fake: FakeS3, at: Callable[[int], Fault], offset: int) -> None:
    """One break is invisible: what is missing is asked for, of the same version. A cache asks for
    the block, which is all of the object.
    """
    async with watched(fake) as watch:
        start, stop = (START, STOP) if watch.app.cache is None else (0, len(FILM))
        etag = watch.put("film", FILM)
        fake.misbehave(at(offset), key="film", times=1)
        received = await watch.get("/film", Range=f"bytes={START}-{STOP - 1}")
        assert (received.status, received.complete) == (206, True)
        assert received.headers["content-range"] == f"bytes {START}-{STOP - 1}/{len(FILM)}"
        first, second = gets(fake)
        assert asked(first) == (start, stop - 1)
        resumed_at, last = asked(second)
        # What aiohttp had not yet handed out when the connection broke is lost to us.
        assert start <= resumed_at <= start + offset
        assert resumed_at > start or offset < MIB
        assert last == stop - 1
        assert second.headers["if-match"] == etag
        if offset < 2:  # where no byte arrived, the answer may count as one that never came
            again = watch.rose(RESUMES) + watch.rose("rangeserver_origin_retries_total")
            assert again == 1
        else:
            await watch.counts(1, RESUMES)
        await watch.counts(1, RESPONSES, outcome="complete", status="206", method="GET")
        small = min(offset, 1999)
        watch.again(complete, lambda _: faults.every_other(at(small)), at_once=PER_ROUND)


@pytest.mark.parametrize("offset", OFFSETS)
async def test_a01_fin_mid_body(fake: FakeS3, offset: int) -> None:
    await resumed_once(fake, faults.fin_after, offset)


@pytest.mark.parametrize("offset", OFFSETS)
async def test_a02_reset_mid_body(fake: FakeS3, offset: int) -> None:
    await resumed_once(fake, faults.reset_after, offset)


@pytest.mark.long
async def test_a01_a02_repetitions(fake: FakeS3) -> None:
    """Fewer of them: each waits for the pause before its resume, and asks the origin twice."""
    breaks = itertools.cycle((faults.fin_after(1000), faults.reset_after(1000)))
    async with watched(fake) as watch:
        await watch.leaves_no_memory(
            complete, lambda _: faults.every_other(next(breaks)), times=500
        )
        assert watch.rose(RESUMES) >= 500 or watch.app.cache is not None


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
        watch.again(aborted, lambda _: BROKEN, **ALL_AT_ONCE)


@pytest.mark.long
async def test_a03_repetitions(fake: FakeS3) -> None:
    """Fewer of them: each waits for the pauses between its attempts."""
    async with watched(fake, origin={"max_resumes": 1}) as watch:
        await watch.leaves_no_memory(aborted, lambda _: BROKEN, times=200)


async def test_a04_stall_mid_body_once(fake: FakeS3) -> None:
    async with watched(fake, origin=SHORT) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(2 * MIB), key="film", times=1)
        running = asyncio.create_task(watch.get("/film"))
        await eventually(lambda: fake.stalled == 1)
        await watch.probe()
        received = await running
        assert received.complete
        assert received.seconds < BUDGET_SECONDS
        await watch.counts(1, RESUMES)
        stalled = faults.stall_after(1000)
        watch.again(
            complete, lambda _: faults.every_other(stalled), origin=STALLING, at_once=PER_ROUND
        )


async def test_a04_stall_mid_body_for_good(fake: FakeS3) -> None:
    async with watched(fake, origin=SHORT) as watch:
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
        watch.again(aborted, lambda _: STALLED, origin=STALLING, at_once=PER_ROUND)


async def test_a05_drip(fake: FakeS3) -> None:
    """A byte now and then never makes an idle connection; the least rate catches it."""
    slow = {**SHORT, "min_bytes_per_second": 8192, "min_rate_window_seconds": 0.4}
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
        slower = {**FEW_ATTEMPTS, "min_rate_window_seconds": 0.15}
        dripping = faults.drip(1, 0.02)
        watch.again(
            complete, lambda _: faults.every_other(dripping), origin=slower, at_once=PER_ROUND
        )


async def stalled_film(watch: Watch) -> asyncio.Task[Received]:
    """A client in the middle of a film whose origin has stopped sending."""
    watch.put("film", FILM)
    watch.fake.misbehave(faults.stall_after(2 * MIB), key="film", times=1)
    running = asyncio.create_task(watch.get("/film"))
    await eventually(lambda: watch.fake.stalled == 1)
    return running


async def test_a17_new_version_mid_stream(fake: FakeS3) -> None:
    async with watched(fake, origin=SHORT) as watch:
        running = await stalled_film(watch)
        watch.put("film", OTHER)
        received = await running
        assert not received.complete  # a prefix of the old version: get() has compared it
        assert received.was_reset
        assert len(received.body) <= 2 * MIB
        await watch.counts(1, RESPONSES, outcome="origin_failed", status="200", method="GET")
        fresh = await watch.get("/film")
        assert fresh.body == OTHER
        replaced = broken_after(functools.partial(another_version, watch))
        watch.again(aborted, replaced, at_once=PER_ROUND)


async def test_a17_new_version_before_the_first_byte(fake: FakeS3) -> None:
    async with watched(fake, origin=SHORT) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(0), key="film", times=1)
        running = asyncio.create_task(watch.get("/film", Range="bytes=5-999999"))
        await eventually(lambda: fake.stalled == 1)
        watch.put("film", OTHER)
        received = await running
        assert (received.status, received.complete) == (206, True)
        assert received.body == OTHER[5:1_000_000]

        def replaced(key: str) -> Fault:
            new = faults.after_doing(lambda: another_version(watch, key), faults.fin_after(0))
            return faults.when_good(faults.every_other(new))

        watch.again(complete, replaced, at_once=PER_ROUND)


async def test_a17_new_version_between_two_requests(fake: FakeS3) -> None:
    """What is known of an object is out of date: the answer is of the new version all the same."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film", Range="bytes=0-99")).body == FILM[:100]
        watch.put("film", OTHER)
        assert (await watch.get("/film", Range="bytes=0-99")).body == OTHER[:100]
        watch.again(replaced_between_two_requests)


async def replaced_between_two_requests(watch: Watch, key: str) -> None:
    version = another_version(watch, key)
    received = await watch.get(f"/{key}", goes_on=False, Range="bytes=0-99")
    assert received.body == version[:100]


async def test_a18_deleted_mid_stream(fake: FakeS3) -> None:
    async with watched(fake, origin=SHORT) as watch:
        running = await stalled_film(watch)
        fake.delete("film")
        received = await running
        assert not received.complete
        assert received.was_reset
        gone = await watch.get("/film")
        assert (gone.status, gone.error_code) == (404, "not_found")
        watch.again(deleted_meanwhile, broken_after(fake.delete), at_once=PER_ROUND)


async def deleted_meanwhile(watch: Watch, key: str) -> None:
    watch.put(key, VERSIONS[0])
    await aborted(watch, key)
    assert (await watch.get(f"/{key}", goes_on=False)).status == 404


async def test_a18_deleted_under_an_open_body(fake: FakeS3) -> None:
    """S3 finishes a body that it has begun, and so do we."""
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.after_doing(lambda: fake.delete("film")), key="film", times=1)
        assert (await watch.get("/film")).complete
        assert (await watch.get("/film")).status == 404
        watch.again(deleted_under_it, broken_after(fake.delete, lambda answer: answer))


async def deleted_under_it(watch: Watch, key: str) -> None:
    watch.put(key, VERSIONS[0])
    await complete(watch, key)
    assert (await watch.get(f"/{key}", goes_on=False)).status == 404


async def test_a22_corrupt_byte_passes_through(fake: FakeS3) -> None:
    """The limit of what can be known of a range without a digest; it harms nothing else. A cache
    keeps what came until there is another version.
    """
    async with watched(fake) as watch:
        etag = watch.put("film", FILM)
        watch.versions[etag] = faults.with_a_flipped_byte(FILM, MIB)
        fake.misbehave(faults.corrupted(MIB), key="film", times=1)
        assert (await watch.get("/film")).complete
        if watch.app.cache is not None:
            assert (await watch.get("/film")).complete
            watch.renew("film")
        watch.versions[etag] = FILM
        assert (await watch.get("/film")).complete
        watch.again(corrupt_and_complete, lambda _: faults.corrupted(1500))


async def corrupt_and_complete(watch: Watch, key: str) -> None:
    if watch.app.cache is None:
        watch.put(key, VERSIONS[0])
    body = watch.fake.body(key)
    watch.versions[watch.fake.etag(key)] = faults.with_a_flipped_byte(body, 1500)
    assert (await watch.get(f"/{key}", goes_on=False)).complete
