"""Objects that change, go or must not be kept, and origins that are down, with the cache on: A17
and A18 again, no-store, stale-if-error. Versions at several processes: test_cache_processes.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rangeserver.cache.caching_origin import CachingOrigin
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.faults.responses import Received
from tests.support import RawClient, eventually

MIB = 1 << 20
BLOCK = 64 << 10
WITHIN_A_BLOCK = 4 * BLOCK + 5
FILM = random.Random(1).randbytes(4 * MIB)
OTHER = random.Random(2).randbytes(4 * MIB + 99)
SAME_SIZE = random.Random(3).randbytes(4 * MIB)

KEPT: dict[str, Any] = {"block_bytes": BLOCK, "ttl_seconds": 60}
ASKS_ALWAYS: dict[str, Any] = {"block_bytes": BLOCK, "ttl_seconds": 0}
ONCE = {"max_attempts": 1}


async def whole(watch: Watch, body: bytes, key: str = "film") -> None:
    received = await watch.get(f"/{key}")
    assert (received.status, received.complete) == (200, True)
    assert received.body == body


async def stalled(watch: Watch, offset: int) -> asyncio.Task[Received]:
    """A viewer of a cold film whose first fill has stopped at an offset."""
    watch.put("film", FILM)
    watch.fake.misbehave(faults.stall_after(offset), key="film", times=1)
    viewer = asyncio.create_task(watch.get("/film"))
    await eventually(lambda: watch.fake.stalled == 1)
    return viewer


@pytest.mark.parametrize("body", [OTHER, SAME_SIZE], ids=["other", "same_size"])
@pytest.mark.parametrize("cache", [KEPT, ASKS_ALWAYS], ids=["ttl", "always"])
async def test_a17_new_version_mid_stream(fake: FakeS3, cache: dict[str, Any], body: bytes) -> None:
    """The old version ends there, for all to see; whoever asks then gets the new one."""
    async with watched(fake, cache=cache) as watch:
        viewer = await stalled(watch, WITHIN_A_BLOCK)
        watch.put("film", body)
        fake.release()
        received = await viewer
        assert not received.complete
        assert received.was_reset
        await whole(watch, body)
        await whole(watch, body)
        fetched = fake.sent["film"]
        await whole(watch, body)
        assert fake.sent["film"] == fetched


async def test_a17_many_viewers_of_the_old_version(fake: FakeS3) -> None:
    """Their ends cost the new version nothing: it is fetched once."""
    async with watched(fake, cache=KEPT) as watch:
        await whole_of_first_half(watch)
        clients = []
        for _ in range(10):
            client = await RawClient.connect(watch.app.port, receive_buffer=4096)
            await client.ask("/film")
            watch.asked += 1
            clients.append(client)
        await eventually(lambda: len(watch.app.active) == 10)
        watch.put("film", OTHER)
        fake.sent.clear()

        async def ends(client: RawClient) -> None:
            response = await client.response()
            assert not response.complete
            assert FILM.startswith(response.body)
            client.close()
            received = await watch.get("/film", goes_on=False)
            assert (received.complete, received.body == OTHER) == (True, True)

        await asyncio.gather(*(ends(client) for client in clients))
        assert len(OTHER) <= fake.sent["film"] <= len(OTHER) * 1.02


async def whole_of_first_half(watch: Watch) -> None:
    """Have the first half of a film cached, and nothing else of it."""
    watch.put("film", FILM)
    await watch.get("/film", Range=f"bytes=0-{2 * MIB - 1}")


@pytest.mark.parametrize("cache", [KEPT, ASKS_ALWAYS], ids=["ttl", "always"])
async def test_a17_new_version_before_the_first_byte(fake: FakeS3, cache: dict[str, Any]) -> None:
    async with watched(fake, cache=cache) as watch:
        viewer = await stalled(watch, BEFORE_HEADER)
        watch.put("film", OTHER)
        fake.release()
        received = await viewer
        # What the origin had decided before is of the version of then.
        assert received.complete or received.body == FILM[: len(received.body)]
        await whole_of_current(watch, OTHER)


async def whole_of_current(watch: Watch, body: bytes) -> None:
    """Within the time to live the version of before may be told of, if it is all there."""
    received = await watch.get("/film")
    assert received.complete
    if received.body != body:
        assert received.body == FILM


async def test_a17_new_version_of_a_part_that_is_missing(fake: FakeS3) -> None:
    """Facts of a moment ago, and blocks of it that are not there: it starts over on the new one."""
    async with watched(fake, cache=KEPT) as watch:
        await whole_of_first_half(watch)
        watch.put("film", OTHER)
        received = await watch.get("/film", Range=f"bytes={3 * MIB}-{3 * MIB + 99}")
        assert (received.status, received.complete) == (206, True)
        assert received.body == OTHER[3 * MIB : 3 * MIB + 100]
        await whole(watch, OTHER)


async def test_a17_new_version_between_two_requests(fake: FakeS3) -> None:
    async with watched(fake, cache=ASKS_ALWAYS) as watch:
        for body in (FILM, OTHER, SAME_SIZE, FILM):
            watch.put("film", body)
            await whole(watch, body)
            await whole(watch, body)
            received = await watch.get("/film", Range="bytes=-5")
            assert received.body == body[-5:]


async def test_a18_deleted_mid_stream(fake: FakeS3) -> None:
    async with watched(fake, cache=KEPT) as watch:
        viewer = await stalled(watch, WITHIN_A_BLOCK)
        fake.delete("film")
        fake.release()
        received = await viewer
        assert not received.complete
        assert received.was_reset
        gone = await watch.get("/film")
        assert (gone.status, gone.error_code) == (404, "not_found")
        await eventually(lambda: objects(watch) == 1)  # the probe's


async def test_a18_deleted_between_two_requests(fake: FakeS3) -> None:
    async with watched(fake, cache=ASKS_ALWAYS) as watch:
        watch.put("film", FILM)
        await whole(watch, FILM)
        fake.delete("film")
        assert (await watch.get("/film")).status == 404
        assert (await watch.get("/film", method="HEAD")).status == 404
        await eventually(lambda: objects(watch) == 1)
        watch.put("film", OTHER)
        await whole(watch, OTHER)


async def test_a18_deleted_and_whole_in_the_cache(fake: FakeS3) -> None:
    """A viewer who has begun gets the rest of what is kept."""
    async with watched(fake, cache=ASKS_ALWAYS) as watch:
        watch.put("film", FILM)
        await whole(watch, FILM)
        async with await RawClient.connect(watch.app.port, receive_buffer=4096) as client:
            await client.ask("/film")
            watch.asked += 1
            await client.head()
            fake.delete("film")
            assert (await watch.get("/film")).status == 404
            body = b""
            while len(body) < len(FILM) and (more := await client.receive(MIB)):
                body += more
            assert body == FILM


@asynccontextmanager
async def two(fake: FakeS3, directory: Path, **cache: Any) -> AsyncIterator[tuple[Watch, Watch]]:
    """Two servers on one directory, that know nothing of each other."""
    settings = {**ASKS_ALWAYS, "directory": str(directory), **cache}
    async with (
        watched(fake, cache=settings) as one,
        watched(fake, cache=settings) as other,
    ):
        yield one, other


@pytest.mark.parametrize("ttl", [0, 60])
async def test_a17_two_servers_never_mix(fake: FakeS3, tmp_path: Path, ttl: int) -> None:
    """Versions follow one another, while both serve whole objects and parts of them."""
    dice = random.Random(17)
    bodies = [FILM[:MIB], OTHER[: MIB + 5], SAME_SIZE[:MIB]]
    async with two(fake, tmp_path, ttl_seconds=ttl) as servers:

        def put(body: bytes) -> None:
            for server in servers:
                server.put("film", body)

        put(bodies[0])

        async def viewer(number: int) -> int:
            complete = 0
            for _ in range(8):
                start = dice.randrange(MIB - 1)
                field = {} if number % 2 else {"Range": f"bytes={start}-{MIB - 2}"}
                # That a byte is of the version which the header names is checked there.
                received = await servers[number % 2].get("/film", goes_on=False, **field)
                assert received.status in {200, 206} or received.error_code == "object_changed"
                complete += received.complete
            return complete

        async def author() -> None:
            for number in range(40):
                put(bodies[number % len(bodies)])
                await asyncio.sleep(0.01)

        complete, _ = await asyncio.gather(
            asyncio.gather(*(viewer(number) for number in range(10))), author()
        )
        assert any(complete)
        put(bodies[1])
        for server in servers:
            if not ttl:
                assert (await server.get("/film")).body == bodies[1]


async def test_a17_another_server_has_seen_the_new_version(fake: FakeS3, tmp_path: Path) -> None:
    """A viewer at the one, in mid stream when the other replaces the file."""
    async with two(fake, tmp_path) as (one, other):
        viewer = await stalled(one, WITHIN_A_BLOCK)
        other.put("film", OTHER)
        one.put("film", OTHER)
        await whole(other, OTHER)
        fake.release()
        received = await viewer
        # Who had not got a byte yet gets all of the new version.
        assert not received.complete or received.body == OTHER
        fetched = fake.sent["film"]
        await whole(one, OTHER)
        assert fake.sent["film"] == fetched


@pytest.mark.parametrize("control", ["no-store", "private, max-age=60", "max-age=0, NO-STORE"])
async def test_what_must_not_be_kept(fake: FakeS3, control: str) -> None:
    async with watched(fake, cache=KEPT) as watch:
        watch.put("film", FILM, cache_control=control)
        for number in range(2):
            await whole(watch, FILM)
            if not number:
                assert fake.sent["film"] == len(FILM)
            received = await watch.get("/film", Range="bytes=-7")
            assert received.body == FILM[-7:]
            received = await watch.get("/film", Range=f"bytes=-{2 * MIB}")
            assert received.body == FILM[-2 * MIB :]
            assert (await watch.get("/film", method="HEAD")).status == 200
        assert objects(watch) == 1
        assert watch.rose("rangeserver_cache_bypassed_total") > 0


async def test_what_must_be_kept_no_longer(fake: FakeS3) -> None:
    """A version that must not be kept takes the place of one that could be."""
    async with watched(fake, cache=ASKS_ALWAYS) as watch:
        watch.put("film", FILM)
        await whole(watch, FILM)
        watch.put("film", OTHER, cache_control="no-store")
        await whole(watch, OTHER)
        await eventually(lambda: objects(watch) == 1)


async def test_the_origin_is_down(fake: FakeS3) -> None:
    """The cached catalogue plays on, what is not in it is refused with a true status."""
    async with watched(fake, origin=ONCE, cache=ASKS_ALWAYS) as watch:
        for number in range(5):
            watch.put(f"film{number}", FILM[number:])
            await whole(watch, FILM[number:], f"film{number}")
        watch.put("new", FILM)
        await fake.refuse()
        for number in range(5):
            await whole(watch, FILM[number:], f"film{number}")
            head = await watch.get(f"/film{number}", method="HEAD")
            assert head.status == 200
            assert int(head.headers["content-length"]) == len(FILM) - number
            part = await watch.get(f"/film{number}", Range="bytes=1000000-1999999")
            assert (part.status, part.complete) == (206, True)
            etag = head.headers["etag"]
            fresh = await watch.get(f"/film{number}", If_None_Match=etag)
            assert fresh.status == 304
        refused = await watch.get("/new")
        assert refused.status in {502, 503}
        assert watch.rose("rangeserver_cache_stale_answers_total") >= 20
        await fake.listen()
        await eventually_served(watch)


async def test_the_origin_is_down_and_nothing_may_be_stale(fake: FakeS3) -> None:
    async with watched(
        fake, origin=ONCE, cache={**ASKS_ALWAYS, "stale_if_error_seconds": 0}
    ) as watch:
        watch.put("film", FILM)
        await whole(watch, FILM)
        await fake.refuse()
        assert (await watch.get("/film", goes_on=False)).status in {502, 503}
        await fake.listen()
        await eventually_served(watch)


async def test_the_origin_is_silent_and_all_is_kept(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first who asks is patient for a moment; then nobody waits until it answers, and it is
    asked for one thing once at a time.
    """
    monkeypatch.setattr("rangeserver.cache.caching_origin._WAIT_PART", 1 / 1200)
    patient = {"response_seconds": 600.0, "idle_seconds": 600.0}
    async with watched(fake, origin=patient, cache=ASKS_ALWAYS) as watch:
        watch.put("film", FILM)
        watch.put("other", OTHER)
        await whole(watch, FILM)
        await whole(watch, OTHER, "other")
        fake.requests.clear()
        fake.misbehave(faults.stall_after(BEFORE_HEADER), key="film", method=None)
        await whole(watch, FILM)
        caching = watch.app.facts.inner
        assert isinstance(caching, CachingOrigin)
        caching._revalidations._patience = 600.0  # who waited again would do so for long
        for _ in range(5):
            await whole(watch, FILM)
            assert (await watch.get("/film", method="HEAD")).status == 200
        assert [seen.key for seen in fake.requests if seen.key == "film"] == ["film"]
        assert watch.rose("rangeserver_cache_stale_answers_total") == 11
        await whole(watch, OTHER, "other")  # which is asked about, and answered
        watch.put("film", SAME_SIZE)
        fake.behave()
        fake.release()  # the check that goes on says what was current when it came
        await eventually(lambda: not watch.cache.tasks)
        await whole(watch, SAME_SIZE)


@pytest.mark.parametrize(
    "fault", [faults.error(500, "InternalError"), faults.error(503, "SlowDown")]
)
async def test_the_origin_answers_with_errors(fake: FakeS3, fault: faults.Fault) -> None:
    async with watched(fake, origin=ONCE, cache=ASKS_ALWAYS) as watch:
        watch.put("film", FILM)
        await whole(watch, FILM)
        fake.misbehave(fault, method=None)
        await whole(watch, FILM)
        part = await watch.get("/film", Range="bytes=1000000-1999999")
        assert (part.status, part.complete) == (206, True)
        fake.behave()
        watch.put("film", OTHER)
        await eventually_served(watch)
        await whole(watch, OTHER)


async def test_a_refusal_is_no_failure(fake: FakeS3) -> None:
    """Rights that were taken away are not given back by a cache."""
    async with watched(fake, cache=ASKS_ALWAYS) as watch:
        watch.put("film", FILM)
        await whole(watch, FILM)
        fake.misbehave(faults.error(403, "AccessDenied"), key="film", method=None)
        assert (await watch.get("/film")).status == 403
        fake.behave()
        await whole(watch, FILM)


async def eventually_served(watch: Watch) -> None:
    """Until the origin is asked again after it was left alone."""
    watch.put("again", FILM)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10.0
    while (await watch.get("/again", goes_on=False)).status != 200:
        assert loop.time() < deadline
        await asyncio.sleep(0.05)


def objects(watch: Watch) -> int:
    """Files of objects in the directory."""
    found: Callable[[str], Any] = watch.cache.directory.path.glob
    return len(list(found("objects/*/*.rsc")))
