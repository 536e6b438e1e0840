"""One deadline for what a client waits before its first byte, whatever it waits for."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app

MIB = 1 << 20
FILM = random.Random(1).randbytes(3 * MIB)

BRIEF: dict[str, Any] = {
    "response_seconds": 0.3,
    "pool_wait_seconds": 600.0,
    "idle_seconds": 600.0,
    "max_attempts": 3,
    "max_resumes": 6,
    "hedge_percent": 0,
}
"""A deadline beside which every other is so long that the test would fail."""

CACHE = pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])
METHODS = pytest.mark.parametrize("method", ["GET", "HEAD"])


@pytest.fixture
def stored() -> dict[str, bytes]:
    return {"film": FILM}


@asynccontextmanager
async def served(
    fake: FakeS3,
    directory: Path,
    *,
    cached: bool,
    origin: dict[str, Any] | None = None,
    **cache: Any,
) -> AsyncIterator[RunningApp]:
    settings = {"enabled": cached, "directory": str(directory), "min_free_bytes": 0, **cache}
    config = config_for(fake, origin={**BRIEF, **(origin or {})}, cache=settings)
    async with running_app(config) as app:
        yield app
        await eventually(lambda: not app.active and not app.acquired)


def is_fetching(app: RunningApp) -> bool:
    """Whether it has taken blocks, so that no other process will fetch them."""
    assert app.cache is not None
    fills = (fill for entry in app.cache.entries for fill in entry.filling.values())
    return any(fill.fetching for fill in fills)


async def is_late(app: RunningApp, *, method: str = "GET", **headers: str) -> None:
    """Ask for the film, and be told in time that it takes too long, on a connection that stays."""
    async with await RawClient.connect(app.port) as client:
        for _ in range(2):
            response = await client.get("/film", method=method, **headers)
            assert response.status == 504
            assert response.headers["content-type"] == "application/json"
            assert method == "HEAD" or b"origin_timeout" in response.body


SILENT = faults.stall_after(BEFORE_HEADER)


@CACHE
@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"Range": "bytes=5-9"}),
        ("GET", {"If_None_Match": '"x"'}),
        ("HEAD", {}),
    ],
)
async def test_an_origin_that_does_not_answer(
    fake: FakeS3, tmp_path: Path, method: str, headers: dict[str, str], *, cached: bool
) -> None:
    fake.misbehave(SILENT, method=None)
    async with served(fake, tmp_path, cached=cached) as app:
        await is_late(app, method=method, **headers)


@CACHE
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}, {"Range": "bytes=0-1,9-10"}])
async def test_an_origin_whose_body_never_begins(
    fake: FakeS3, tmp_path: Path, headers: dict[str, str], *, cached: bool
) -> None:
    fake.misbehave(faults.stall_after(0))
    async with served(fake, tmp_path, cached=cached) as app:
        await is_late(app, **headers)


@CACHE
async def test_an_origin_whose_bodies_break_before_they_begin(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    """Each after a while that is short beside the deadline."""
    broken = faults.all_of(faults.late(0.2), faults.fin_after(0))
    fake.misbehave(broken)
    many = {"max_attempts": 10}
    async with served(fake, tmp_path, cached=cached, origin=many) as app:
        await is_late(app)


@CACHE
async def test_an_object_that_is_replaced_each_time(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    """No attempt takes longer than allowed, all of them together do."""
    changed = faults.all_of(faults.error(412, "PreconditionFailed"), faults.late(0.12))
    fake.misbehave(changed)
    fake.misbehave(faults.late(0.12), method="HEAD")
    async with served(fake, tmp_path, cached=cached) as app:
        await is_late(app, If_None_Match='"x"')


async def test_another_process_that_asks_first(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as late as the origin that it waits for."""
    monkeypatch.setattr("rangeserver.cache.object_lock._OTHERS_SECONDS", 600.0)
    fake.misbehave(SILENT, method=None)
    async with AsyncExitStack() as stack:
        patient = {"response_seconds": 600.0}
        first = await stack.enter_async_context(served(fake, tmp_path, cached=True, origin=patient))
        other = await stack.enter_async_context(served(fake, tmp_path, cached=True))
        async with await RawClient.connect(first.port) as client:
            await client.ask("/film")
            await eventually(lambda: fake.stalled == 1)
            await is_late(other)
            assert len(fake.requests) == 1


async def test_another_process_that_fetches(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rangeserver.cache.block_lock._OTHERS_SECONDS", 600.0)
    async with AsyncExitStack() as stack:
        patient = {"response_seconds": 600.0}
        first = await stack.enter_async_context(served(fake, tmp_path, cached=True, origin=patient))
        other = await stack.enter_async_context(served(fake, tmp_path, cached=True))
        fake.misbehave(faults.stall_after(0), times=1)
        async with await RawClient.connect(first.port) as client:
            await client.ask("/film")
            await eventually(lambda: fake.stalled == 1 and is_fetching(first))
            await is_late(other)
            fake.release()
            assert (await client.response()).body == FILM


async def test_no_room_for_more_bytes_on_their_way(fake: FakeS3, tmp_path: Path) -> None:
    async with served(fake, tmp_path, cached=True, max_in_flight_bytes="1MiB") as app:
        assert app.cache is not None
        assert app.cache.budget.try_take("another", MIB)
        await is_late(app, Range="bytes=2000000-")
        app.cache.budget.give("another", MIB)


@CACHE
async def test_what_has_begun_may_take_longer(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    fake.misbehave(faults.drip(MIB, 0.6))
    soon = {"response_seconds": 1.2}
    async with (
        served(fake, tmp_path, cached=cached, origin=soon, read_ahead_bytes="1MiB") as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/film")).body == FILM


@CACHE
@METHODS
async def test_a_convoy_of_clients_that_leave_costs_one_request(
    fake: FakeS3, tmp_path: Path, method: str, *, cached: bool
) -> None:
    """Each leaves when the next has come; the last one gets what the first one asked for."""
    fake.misbehave(SILENT, method=None, times=1)
    patient = {"response_seconds": 600.0}
    async with served(fake, tmp_path, cached=cached, origin=patient) as app:
        clients = [await RawClient.connect(app.port)]
        await clients[0].ask("/film", method=method, Range="bytes=5-9")
        await eventually(lambda: fake.stalled == 1)
        for number in range(8):
            clients.append(await RawClient.connect(app.port))
            await clients[-1].ask("/film", method=method, Range="bytes=5-9")
            await eventually(lambda: len(app.active) == 2)
            clients[number].reset()
            await eventually(lambda: len(app.active) == 1)
        assert len(fake.requests) == 1
        fake.release()
        response = await clients[-1].response(has_body=method == "GET")
        assert response.status == (206 if method == "GET" else 200)
        assert response.body == (FILM[5:10] if method == "GET" else b"")
        clients[-1].close()
        assert len(fake.requests) == 1 + (method == "GET")  # whose bytes the one who left had
