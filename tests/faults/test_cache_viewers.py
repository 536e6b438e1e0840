"""Viewers of cached objects: many at once, those that leave, those that stall; B9 and B10."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from rangeserver.cache.entry import Entry
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.support import RawClient, eventually

MIB = 1 << 20
BLOCK = 64 << 10
WITHIN_A_BLOCK = 4 * BLOCK + 5
FILM = random.Random(1).randbytes(8 * MIB + 12_345)

FETCHED = "rangeserver_origin_bytes_total"
RESPONSES = "rangeserver_responses_total"


def spans(fake: FakeS3, key: str = "film") -> list[tuple[int, int]]:
    """What was asked of the origin, half-open, in order of offsets."""
    size = len(fake.body(key))
    asked = (seen.headers["range"] for seen in fake.seen("GET") if seen.key == key)
    ends = (each.removeprefix("bytes=").split("-") for each in asked)
    return sorted((int(first), min(int(last) + 1, size)) for first, last in ends)


async def test_b09_500_ranges_of_one_object(fake: FakeS3) -> None:
    """However many want a block, it is fetched once."""
    cuts = random.Random(9)
    ranges = [sorted(cuts.sample(range(len(FILM)), 2)) for _ in range(460)]
    # Whatever the dice say, everything is wanted by someone.
    ranges += [list(pair) for pair in pairwise([*range(0, len(FILM), len(FILM) // 39), len(FILM)])]
    cuts.shuffle(ranges)
    cache = {"block_bytes": BLOCK, "ttl_seconds": 60}
    async with watched(fake, cache=cache) as watch:
        watch.put("film", FILM)

        async def one(start: int, stop: int) -> None:
            # Not less than a block, for which blocks are fetched only the second time.
            stop = min(max(stop, start + BLOCK), start + MIB, len(FILM))
            received = await watch.get("/film", goes_on=False, Range=f"bytes={start}-{stop - 1}")
            assert (received.status, received.complete) == (206, True)

        await asyncio.gather(*(one(*each) for each in ranges))
        asked = spans(fake)
        assert all(one[1] == other[0] for one, other in pairwise(asked))
        assert (asked[0][0], asked[-1][1]) == (0, len(FILM))
        assert all(start % BLOCK == 0 for start, _ in asked)
        await watch.counts(len(FILM), FETCHED)


@pytest.mark.parametrize(
    ("offset", "reset"),
    [
        *((offset, True) for offset in (BEFORE_HEADER, 0, 1, BLOCK - 1, BLOCK, 700_000)),
        # Those that only close their sending side are noticed after two seconds.
        *((offset, False) for offset in (BEFORE_HEADER, 700_000)),
    ],
)
async def test_b10_the_first_to_ask_leaves(fake: FakeS3, offset: int, *, reset: bool) -> None:
    """What was begun for the one goes on for the others, and nothing is fetched twice."""
    film = FILM[:MIB]  # one fill; what the first one alone had read ahead would end with it
    origin = {"idle_seconds": 10.0, "response_seconds": 10.0}
    cache = {"block_bytes": BLOCK, "ttl_seconds": 60}
    async with watched(fake, origin=origin, cache=cache) as watch:
        watch.put("film", film)
        fake.misbehave(faults.stall_after(offset), key="film", times=1)
        leader = await RawClient.connect(watch.app.port)
        await leader.ask("/film")
        watch.asked += 1
        await eventually(lambda: fake.stalled == 1)
        followers = [asyncio.create_task(watch.get("/film", goes_on=False)) for _ in range(8)]
        await eventually(lambda: len(watch.app.active) == 9)
        if offset != BEFORE_HEADER:  # then a fill has begun; it waits for readers only briefly
            await eventually(lambda: most_readers(watch) == 9)
        leader.reset() if reset else leader.close()
        await eventually(lambda: len(watch.app.active) == 8)
        fake.release()
        for received in await asyncio.gather(*followers):
            assert (received.status, received.complete) == (200, True)
        assert fake.sent["film"] == len(film)
        assert all(one[1] == other[0] for one, other in pairwise(spans(fake)))


def most_readers(watch: Watch) -> int:
    """How many read from the fill that most read from."""
    entries = watch.cache.entries
    fills = [fill for entry in entries for fill in entry.filling.values()]
    return max((len(fill._readers) for fill in fills), default=0)


def films(watch: Watch) -> list[Entry]:
    return [each for each in watch.cache.entries if each.cache_key.endswith(" film")]


async def test_b10_all_leave(fake: FakeS3) -> None:
    """A fill that nobody reads from ends, and what came of it is not fetched again."""
    cache = {"block_bytes": BLOCK, "ttl_seconds": 60}
    async with watched(fake, cache=cache) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.stall_after(WITHIN_A_BLOCK), key="film", times=1)
        clients = [await RawClient.connect(watch.app.port) for _ in range(5)]
        for client in clients:
            await client.ask("/film", Range="bytes=0-999999")
        watch.asked += len(clients)
        await eventually(lambda: fake.stalled == 1)
        await eventually(lambda: len(watch.app.active) == 5)
        # The first block has come and is kept.
        await eventually(lambda: any(each.next_missing(0, 1) is None for each in films(watch)))
        for client in clients:
            client.reset()
        await eventually(lambda: not watch.app.active and not watch.cache.tasks, 1.0)
        await eventually(lambda: not watch.app.acquired)
        fake.requests.clear()
        (entry,) = films(watch)
        missing = entry.next_missing(0, entry.layout.blocks)
        assert missing  # what had come when they left, which the first part has
        received = await watch.get("/film", Range="bytes=0-499999")
        assert received.complete
        assert spans(fake)[0][0] == missing * BLOCK


def stalled_viewer(port: int) -> asyncio.Future[RawClient]:
    return asyncio.ensure_future(RawClient.connect(port, receive_buffer=4096))


async def test_b02_a_stalled_viewer_of_a_cached_object(fake: FakeS3) -> None:
    """It is cut off by the kernel's way of sending as well."""
    server = {"write_idle_seconds": 0.3, "min_rate_grace_seconds": 60}
    async with watched(fake, server=server, cache={"ttl_seconds": 60}) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film")).complete
        clients = [await stalled_viewer(watch.app.port) for _ in range(20)]
        for client in clients:
            await client.ask("/film")
        watch.asked += len(clients)
        await watch.counts(20, RESPONSES, outcome="client_too_slow", status="200", method="GET")
        for client in clients:
            await client.head()
            assert len(await client.rest()) < len(FILM)
            assert client.was_reset
            client.close()
        lines = [line for line in watch.log.access.values() if line["outcome"] != "complete"]
        assert {line["source"] for line in lines} == {"cache"}


async def test_b03_a_viewer_that_trickles(fake: FakeS3) -> None:
    """It takes something now and then, but less than the least."""
    server = {
        "write_idle_seconds": 60,
        "min_rate_grace_seconds": 0.3,
        "min_bytes_per_second": 100 * MIB,
    }
    async with watched(fake, server=server, cache={"ttl_seconds": 60}) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film")).complete
        client = await stalled_viewer(watch.app.port)
        await client.ask("/film")
        watch.asked += 1
        await client.head()
        received = 0
        while data := await client.receive(2048):
            received += len(data)
            await asyncio.sleep(0.01)
        assert client.was_reset
        assert received < len(FILM)
        client.close()
        await watch.counts(1, RESPONSES, outcome="client_too_slow", status="200", method="GET")


async def test_a_paused_viewer_of_a_cached_object_goes_on(fake: FakeS3) -> None:
    """Longer than the least rate's grace, shorter than what a pause may be."""
    server = {"write_idle_seconds": 20, "min_rate_grace_seconds": 0.2, "min_bytes_per_second": 1}
    async with watched(fake, server=server, cache={"ttl_seconds": 60}) as watch:
        watch.put("film", FILM)
        assert (await watch.get("/film")).complete
        async with await RawClient.connect(watch.app.port, receive_buffer=4096) as client:
            await client.ask("/film")
            watch.asked += 1
            await eventually(lambda: bool(watch.app.room._waiting))
            await asyncio.sleep(0.5)
            assert (await client.response()).body == FILM


async def test_no_room_for_more_bytes_on_their_way(fake: FakeS3) -> None:
    """New objects are refused in time; those that run, and what is cached, go on."""
    settings = {"max_in_flight_bytes": MIB, "block_bytes": BLOCK, "ttl_seconds": 60}
    origin = {"idle_seconds": 10.0, "pool_wait_seconds": 0.3}
    async with watched(fake, origin=origin, cache=settings) as watch:
        for key in ("film", "other", "cached"):
            watch.put(key, FILM[: 2 * MIB])
        assert (await watch.get("/cached")).complete
        fake.misbehave(faults.stall_after(BLOCK), key="film")
        running = asyncio.create_task(watch.get("/film"))
        await eventually(lambda: fake.stalled == 1)
        refused = await watch.get("/other", goes_on=False)
        assert (refused.status, refused.error_code) == (503, "origin_busy")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.seconds < 1.0
        assert (await watch.get("/cached")).complete
        fake.release()
        assert (await running).complete
        assert (await watch.get("/other")).complete


async def test_those_that_run_outlast_a_lack_of_room(fake: FakeS3) -> None:
    """A viewer in the middle of an object waits for what is stuck, and is not cut off for it."""
    settings = {"max_in_flight_bytes": MIB, "block_bytes": BLOCK, "ttl_seconds": 60}
    origin = {"idle_seconds": 10.0, "pool_wait_seconds": 0.2}
    async with watched(fake, origin=origin, cache=settings) as watch:
        watch.put("film", FILM[: 4 * MIB])
        watch.put("stuck", FILM[: 2 * MIB])
        async with await RawClient.connect(watch.app.port, receive_buffer=4096) as client:
            await client.ask("/film")
            watch.asked += 1
            await eventually(lambda: bool(watch.app.room._waiting))
            await eventually(lambda: not watch.cache.tasks)
            fake.misbehave(faults.stall_after(0), key="stuck")
            running = asyncio.create_task(watch.get("/stuck"))
            await eventually(lambda: fake.stalled == 1)
            response = asyncio.create_task(client.response())
            await asyncio.sleep(2 * origin["pool_wait_seconds"])
            assert not response.done()
            fake.release()
            assert (await response).body == FILM[: 4 * MIB]
        assert (await running).complete


async def test_eviction_under_viewers(fake: FakeS3) -> None:
    """A cache much smaller than what is watched: it stays small, and nobody notices."""
    limit = 16 * MIB
    async with watched(
        fake, cache={"max_bytes": limit, "block_bytes": BLOCK, "ttl_seconds": 60}
    ) as watch:
        keys = [f"film{number}" for number in range(8)]
        for number, key in enumerate(keys):
            watch.put(key, FILM[number : number + 3 * MIB])
        largest = 0

        async def viewer(seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(5):
                received = await watch.get(f"/{dice.choice(keys)}", goes_on=False)
                assert (received.status, received.complete) == (200, True)
                assert received.seconds < 5.0  # with ten at a time, on a busy machine

        async def measure() -> None:
            nonlocal largest
            while True:
                largest = max(largest, disk_usage(watch.cache.directory.path))
                await asyncio.sleep(0.005)

        measuring = asyncio.create_task(measure())
        await asyncio.gather(*(viewer(seed) for seed in range(10)))
        measuring.cancel()
        assert watch.rose("rangeserver_cache_evictions_total") > 0
        assert largest <= limit * 1.01, f"{largest / limit:.2f} of the limit"
        directory = str(watch.cache.directory.path)
        await eventually(lambda: disk_usage(Path(directory)) <= limit)
        await eventually(lambda: not any(removed_but_open(directory)), 2.0)


def removed_but_open(directory: str) -> Iterator[str]:
    """Files below a directory that have no name any more, and take space none the less."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            path = os.readlink(f"/proc/self/fd/{number}")
            if path.startswith(directory) and not os.fstat(int(number)).st_nlink:
                yield path


def disk_usage(directory: Path) -> int:
    """Bytes on the disk below a directory."""

    def sizes() -> Iterator[int]:
        for path, _, names in os.walk(directory):
            for name in names:
                try:
                    yield os.lstat(os.path.join(path, name)).st_blocks * 512
                except FileNotFoundError:
                    continue  # removed in this moment

    return sum(sizes())
