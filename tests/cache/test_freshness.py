"""How old what is told may be, over the whole server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cache.test_serving import FILM, OTHER, cached
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import DEADLINE_SECONDS, RawClient, eventually, running_app

LONG = 3600.0


class Clocks:
    """Both clocks of the process, which stand still until a test sets them ahead."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        monotonic, wall = time.monotonic(), time.time()
        patch.setattr(time, "monotonic", lambda: monotonic + self._ahead)
        patch.setattr(time, "time", lambda: wall + self._ahead)

    def pass_by(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@asynccontextmanager
async def servers(
    fake: FakeS3, directory: Path, count: int = 1, **settings: Any
) -> AsyncIterator[list[RawClient]]:
    """A client of each of so many servers that share a directory."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            app = await stack.enter_async_context(running_app(cached(fake, directory, **settings)))
            clients.append(await stack.enter_async_context(await RawClient.connect(app.port)))
        yield clients


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"Range": "bytes=4-9"}, 206, OTHER[4:10]),
        ({"Range": "bytes=5250000-"}, 416, None),
        ({"If_Match": '"v0"'}, 412, None),
        ({"If_Match": '"v2"', "Range": "bytes=0-9"}, 206, OTHER[:10]),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
async def test_nothing_is_refused_because_of_what_a_cache_believed(
    fake: FakeS3, tmp_path: Path, count: int, headers: dict[str, str], status: int, body: bytes
) -> None:
    """Whether this process or another was told."""
    fake.put("film", FILM[:3], etag='"v1"')
    async with servers(fake, tmp_path, count, ttl_seconds=LONG) as clients:
        assert (await clients[0].get("/film")).body == FILM[:3]
        fake.put("film", OTHER, etag='"v2"')
        response = await clients[-1].get("/film", **headers)
        assert response.status == status
        assert response.headers.get("etag", '"v2"') == '"v2"'
        if body is not None:
            assert response.body == body


async def test_processes_share_what_they_were_told(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM)
    async with servers(fake, tmp_path, 2, ttl_seconds=LONG) as (one, other):
        assert (await one.get("/film")).body == FILM
        asked = len(fake.requests)
        assert (await other.get("/film")).body == FILM
        assert len(fake.requests) == asked


async def test_no_cache_is_always_asked(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM, cache_control="no-cache")
    async with servers(fake, tmp_path, ttl_seconds=LONG) as (client,):
        assert (await client.get("/film", Range="bytes=0-9")).body == FILM[:10]
        fake.put("film", OTHER, cache_control="no-cache")
        assert (await client.get("/film", Range="bytes=0-9")).body == OTHER[:10]


# --- what the object asks for


@pytest.mark.parametrize(
    "field",
    [
        {"Cache_Control": "max-age=1"},
        {"Cache_Control": "max-age=600, s-maxage=1"},
        {"Cache_Control": "max-age=1, stale-while-revalidate=0"},
        {"Expires": "0"},
    ],
)
@pytest.mark.parametrize("cache", [True, False], ids=["cached", "past"])
async def test_a_live_playlist_is_as_old_as_it_allows(
    fake: FakeS3, tmp_path: Path, clocks: Clocks, field: dict[str, str], cache: bool
) -> None:
    """However long facts are believed that allow it, and told while they are asked for."""
    settings: dict[str, Any] = {
        "ttl_seconds": 5.0,
        "stale_while_revalidate_seconds": 10.0,
        "enabled": cache,
    }
    async with servers(fake, tmp_path, **settings) as (client,):
        for number in range(3):
            body = b"#EXTM3U %d" % number
            fake.put("live.m3u8", body, **field)
            assert (await client.get("/live.m3u8")).body == body
            clocks.pass_by(0.5)
            asked = len(fake.requests)
            assert (await client.get("/live.m3u8")).body == body
            believed = "Expires" not in field
            assert (len(fake.requests) == asked) is (believed and cache)
            clocks.pass_by(0.6)


async def test_what_allows_more_is_told_while_it_is_asked_for(
    fake: FakeS3, tmp_path: Path, clocks: Clocks
) -> None:
    settings: dict[str, Any] = {"ttl_seconds": 5.0, "stale_while_revalidate_seconds": 10.0}
    field = "max-age=1, stale-while-revalidate=3"
    async with servers(fake, tmp_path, **settings) as (client,):
        fake.put("film", FILM, Cache_Control=field)
        assert (await client.get("/film")).body == FILM
        fake.put("film", OTHER, Cache_Control=field)
        clocks.pass_by(3.5)
        asked = len(fake.requests)
        assert (await client.get("/film")).body == FILM
        await eventually(lambda: len(fake.requests) > asked)
        clocks.pass_by(1.0)
        assert (await client.get("/film")).body == OTHER


@pytest.mark.parametrize("field", ["no-store", "private, max-age=60"])
async def test_what_must_not_be_kept_is_asked_for_each_time(
    fake: FakeS3, tmp_path: Path, field: str
) -> None:
    async with servers(fake, tmp_path, ttl_seconds=LONG) as (client,):
        for body in (FILM, OTHER, FILM):
            fake.put("film", body, Cache_Control=field)
            head = await client.get("/film", method="HEAD")
            assert head.headers["etag"] == fake.etag("film")
            assert (await client.get("/film")).body == body


async def test_belief_is_bounded_however_often_it_is_passed_on(
    fake: FakeS3, tmp_path: Path, clocks: Clocks
) -> None:
    fake.put("film", FILM)
    async with servers(fake, tmp_path, 2, ttl_seconds=5.0) as (one, other):
        assert (await one.get("/film")).body == FILM
        clocks.pass_by(4.0)
        asked = len(fake.requests)
        assert (await other.get("/film")).body == FILM
        assert len(fake.requests) == asked
        fake.put("film", OTHER)
        clocks.pass_by(1.1)
        assert (await other.get("/film")).body == OTHER
        assert (await one.get("/film")).body == OTHER


# --- Age


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "past"])
async def test_answers_say_how_old_they_are(
    fake: FakeS3, tmp_path: Path, clocks: Clocks, cache: bool
) -> None:
    fake.put("film", FILM)
    ways: list[tuple[int, dict[str, str]]] = [
        (200, {}),
        (200, {"method": "HEAD"}),
        (206, {"Range": "bytes=0-9"}),
        (206, {"Range": "bytes=0-9,1000000-1000009"}),
        (304, {"If_None_Match": fake.etag("film")}),
    ]
    async with servers(fake, tmp_path, ttl_seconds=LONG, enabled=cache) as (client,):
        for age in (0, 3, 100):
            for status, how in ways:
                response = await client.get("/film", **how)
                assert (response.status, response.headers["age"]) == (status, str(age))
            clocks.pass_by({0: 3.0, 3: 97.0}.get(age, 0.0))
        assert "age" not in (await client.get("/film", Range="bytes=99999999-")).headers
        assert "age" not in (await client.get("/nothing")).headers


async def test_answers_from_a_file_are_as_old_as_what_it_says(
    fake: FakeS3, tmp_path: Path, clocks: Clocks
) -> None:
    fake.put("film", FILM)
    async with servers(fake, tmp_path, ttl_seconds=LONG) as (client,):
        assert (await client.get("/film")).headers["age"] == "0"
    clocks.pass_by(50.0)
    async with servers(fake, tmp_path, ttl_seconds=LONG) as (client,):
        assert (await client.get("/film")).headers["age"] == "50"
    await fake.refuse()
    settings: dict[str, Any] = {"ttl_seconds": 5.0, "stale_if_error_seconds": LONG}
    async with servers(fake, tmp_path, **settings) as (client,):
        for _ in range(2):
            response = await client.get("/film")
            assert (response.status, response.headers["age"]) == (200, "50")
            clocks.pass_by(0.1)


async def test_the_age_at_the_origin_is_added(fake: FakeS3, tmp_path: Path, clocks: Clocks) -> None:
    """Of a store behind a cache of its own."""
    fake.put("film", FILM, Age="20", Cache_Control="max-age=22")
    async with servers(fake, tmp_path, ttl_seconds=LONG) as (client,):
        assert (await client.get("/film")).headers["age"] == "20"
        clocks.pass_by(1.0)
        asked = len(fake.requests)
        assert (await client.get("/film")).headers["age"] == "21"
        assert len(fake.requests) == asked
        clocks.pass_by(1.1)
        assert (await client.get("/film")).headers["age"] == "20"
        assert len(fake.requests) == asked + 1


# --- what is gone, changed or forbidden

WITHDRAWN: dict[str, tuple[int, faults.Fault]] = {
    "404": (404, faults.error(404, "NoSuchKey")),
    "410": (404, faults.error(410, "Gone")),
    "a mark of deletion": (
        404,
        faults.all_of(
            faults.error(405, "MethodNotAllowed"), faults.header("x-amz-delete-marker", "true")
        ),
    ),
    "405": (404, faults.error(405, "MethodNotAllowed")),
    "refused by name": (404, faults.error(400, "InvalidArgument")),
    "403": (403, faults.error(403, "AccessDenied")),
    "451": (403, faults.error(451, "")),
}


@pytest.mark.parametrize("name", WITHDRAWN)
@pytest.mark.parametrize("count", [1, 2])
async def test_what_is_withdrawn_does_not_come_back(
    fake: FakeS3, tmp_path: Path, count: int, name: str
) -> None:
    """Not when the origin is down after that, and not from a process that did not ask itself."""
    status, fault = WITHDRAWN[name]
    fake.put("film", FILM)
    settings: dict[str, Any] = {"ttl_seconds": 0.0, "stale_if_error_seconds": 86_400.0}
    async with servers(fake, tmp_path, count, **settings) as clients:
        for client in clients:
            assert (await client.get("/film")).body == FILM
        fake.misbehave(fault, key="film", method=None)
        assert (await clients[0].get("/film")).status == status
        fake.behave()
        await fake.refuse()
        for client in clients:
            for method in ("GET", "HEAD"):
                assert (await client.get("/film", method=method)).status in {502, 503}
        await fake.listen()
        for client in clients:
            assert (await client.get("/film")).body == FILM


@pytest.mark.parametrize("name", WITHDRAWN)
@pytest.mark.parametrize("cache", [True, False], ids=["cached", "past"])
async def test_it_is_withdrawn_in_the_background_too(
    fake: FakeS3, tmp_path: Path, clocks: Clocks, name: str, cache: bool
) -> None:
    status, fault = WITHDRAWN[name]
    fake.put("film", FILM)
    settings: dict[str, Any] = {
        "ttl_seconds": 5.0,
        "stale_while_revalidate_seconds": LONG,
        "stale_if_error_seconds": 86_400.0,
        "enabled": cache,
    }
    async with servers(fake, tmp_path, **settings) as (client,):
        assert (await client.get("/film")).body == FILM
        fake.misbehave(fault, key="film", method="HEAD")
        fake.misbehave(fault, key="film", skip=0 if cache else 1)
        clocks.pass_by(6.0)
        # Told while it is asked for; what it costs to find out why a HEAD is refused may take long.
        assert (await client.get("/film")).body == FILM
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await client.get("/film", method="HEAD")).status != status:  # noqa: ASYNC110 (asked from outside)
                await asyncio.sleep(0.005)
        assert (await client.get("/film")).status == status
        await fake.refuse()
        clocks.pass_by(3.0)  # longer than a key is taken to be missing
        assert (await client.get("/film")).status in {502, 503}


@pytest.mark.parametrize("count", [1, 2])
async def test_a_version_of_a_deleted_object_does_not_come_back(
    tmp_path: Path, clocks: Clocks, count: int
) -> None:
    """Though the origin would still give its bytes to those who name it."""
    async with FakeS3(versioned=True) as fake:
        fake.put("film", FILM)
        settings = {"ttl_seconds": 5.0, "stale_while_revalidate_seconds": 10.0}
        origin = {"use_version_ids": True}
        async with servers(fake, tmp_path, count, origin=origin, **settings) as clients:
            for client in clients:
                assert (await client.get("/film")).body == FILM
            fake.delete("film")
            clocks.pass_by(16.0)
            for client in clients:
                assert (await client.get("/film")).status == 404
            await fake.refuse()
            clocks.pass_by(3.0)
            for client in clients:
                assert (await client.get("/film")).status in {502, 503}


async def test_nor_through_a_process_that_has_not_heard_of_it(
    tmp_path: Path, clocks: Clocks
) -> None:
    """It may serve the version for as long as it believes in it, but leaves nothing behind that
    others would serve while the origin is down.
    """
    async with FakeS3(versioned=True) as fake:
        fake.put("film", FILM)
        settings: dict[str, Any] = {"origin": {"use_version_ids": True}, "ttl_seconds": 5.0}
        async with servers(fake, tmp_path, 2, **settings) as (one, other):
            assert (await one.get("/film")).body == FILM
            clocks.pass_by(4.0)
            assert (await other.get("/film", method="HEAD")).status == 200
            fake.delete("film")
            clocks.pass_by(2.0)
            assert (await one.get("/film", method="HEAD")).status == 404
            assert (await other.get("/film")).body == FILM
            await fake.refuse()
            clocks.pass_by(10.0)
            for client in (one, other):
                assert (await client.get("/film")).status in {502, 503}


async def test_a_replaced_object_does_not_come_back(
    fake: FakeS3, tmp_path: Path, clocks: Clocks
) -> None:
    fake.put("film", FILM)
    settings: dict[str, Any] = {"ttl_seconds": 5.0, "stale_while_revalidate_seconds": LONG}
    async with servers(fake, tmp_path, 2, **settings) as (one, other):
        for client in (one, other):
            assert (await client.get("/film")).body == FILM
        fake.put("film", OTHER)
        clocks.pass_by(6.0)
        assert (await one.get("/film")).body == FILM
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await one.get("/film", Range="bytes=0-9")).body != OTHER[:10]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert (await one.get("/film")).body == OTHER
        await fake.refuse()
        clocks.pass_by(2 * LONG)
        for client in (one, other):
            assert (await client.get("/film")).body == OTHER


# --- missing, and down


async def test_a_missing_key_is_missing_for_a_moment(fake: FakeS3, tmp_path: Path) -> None:
    async with servers(fake, tmp_path, missing_seconds=LONG) as (client,):
        for _ in range(3):
            assert (await client.get("/film")).status == 404
        assert len(fake.requests) == 1


@pytest.mark.parametrize("error", [(403, "AccessDenied"), (500, "InternalError")])
async def test_other_refusals_are_not_kept(
    fake: FakeS3, tmp_path: Path, error: tuple[int, str]
) -> None:
    fake.put("film", FILM)
    fake.misbehave(faults.error(*error), times=1)
    async with servers(fake, tmp_path, missing_seconds=LONG) as (client,):
        assert (await client.get("/film")).status in {403, 502}
        assert (await client.get("/film")).body == FILM


async def test_old_facts_hold_up_nobody(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM)
    settings: dict[str, Any] = {"ttl_seconds": 0.01, "stale_while_revalidate_seconds": LONG}
    async with servers(fake, tmp_path, **settings) as (client,):
        assert (await client.get("/film")).body == FILM
        fake.misbehave(faults.stall_after(faults.BEFORE_HEADER), times=1, method="HEAD")
        asked = len(fake.requests)
        for _ in range(5):
            assert (await client.get("/film", Range="bytes=0-9")).body == FILM[:10]
        await eventually(lambda: fake.stalled == 1)
        assert len(fake.requests) == asked + 1
        fake.release()


@pytest.mark.parametrize("seconds", [0.0, LONG])
async def test_what_is_kept_is_served_while_the_origin_is_gone(
    fake: FakeS3, tmp_path: Path, seconds: float
) -> None:
    fake.put("film", FILM)
    settings: dict[str, Any] = {"ttl_seconds": 0.0, "stale_if_error_seconds": seconds}
    async with servers(fake, tmp_path, **settings) as (client,):
        assert (await client.get("/film")).body == FILM
        fake.misbehave(faults.error(500, "InternalError"), method="HEAD")
        response = await client.get("/film")
        assert (response.status, response.body == FILM) == (
            (200, True) if seconds else (502, False)
        )
