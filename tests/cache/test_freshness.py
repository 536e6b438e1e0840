"""How old what is told may be, over the whole server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cache.test_serving import FILM, OTHER, cached
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, eventually, running_app

LONG = 3600.0


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
