"""What a request costs the origin, alone and among others."""

from __future__ import annotations

import asyncio

import pytest

from rangeserver.app import METRICS
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app

FILM = bytes(range(256)) * 400
FACTS = "rangeserver_object_facts_total"


async def get(app: RunningApp, target: str = "/a.mp4", **headers: str) -> tuple[int, bytes]:
    async with await RawClient.connect(app.port) as client:
        response = await client.get(target, **headers)
        assert response.complete
        return response.status, response.body


async def test_what_is_known_is_not_asked_for(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM, etag='"v1"')
    async with running_app(config_for(fake, ttl_seconds=60)) as app:
        assert await get(app, Range="bytes=5-9") == (206, FILM[5:10])
        assert await get(app, Range="bytes=7-") == (206, FILM[7:])
        assert (await get(app, Range="bytes=1000000-"))[0] == 416
        assert await get(app, If_None_Match='"v1"') == (304, b"")
    pins = [(seen.method, seen.headers.get("if-match")) for seen in fake.requests]
    assert pins == [("GET", None), ("GET", '"v1"')]


async def test_a_replaced_object_is_noticed_however_long_facts_are_believed(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM, etag='"v1"')
    async with running_app(config_for(fake, ttl_seconds=60)) as app:
        await get(app)
        fake.put("a.mp4", FILM[::-1], etag='"v2"')
        assert await get(app, Range="bytes=5-9") == (206, FILM[::-1][5:10])
        assert await get(app, Range="bytes=5-9", If_Range='"v1"') == (200, FILM[::-1])
    pins = [seen.headers.get("if-match") for seen in fake.requests]
    assert pins == [None, '"v1"', None, '"v2"']


async def test_a_deleted_object_is_noticed_too(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    async with running_app(config_for(fake, ttl_seconds=60)) as app:
        await get(app)
        fake.delete("a.mp4")
        assert (await get(app))[0] == 404
        assert (await get(app))[0] == 404


@pytest.mark.parametrize("ttl", [0.0, 60.0])
async def test_a_hundred_at_once_ask_for_facts_once(fake: FakeS3, ttl: float) -> None:
    fake.put("a.mp4", FILM, etag='"v1"')
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
    async with running_app(config_for(fake, ttl_seconds=ttl)) as app:
        asking = [
            asyncio.create_task(get(app, Range=f"bytes={start}-{start + 99}"))
            for start in range(100)
        ]
        await eventually(lambda: len(app.active) == 100 and fake.stalled == 1)
        assert len(fake.requests) == 1
        fake.release()
        answers = await asyncio.gather(*asking)
    assert sorted(answers) == sorted((206, FILM[start : start + 100]) for start in range(100))
    assert len(fake.requests) == 100
    assert sum("if-match" not in seen.headers for seen in fake.requests) == 1
    assert fake.seen("HEAD") == []
    now = scrape(app.app[METRICS])
    assert now(FACTS, result="asked") == 1
    assert now(FACTS, result="shared") == 99


async def test_a_hundred_heads_are_one(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(BEFORE_HEADER), method="HEAD", times=1)

    async def head(app: RunningApp) -> int:
        async with await RawClient.connect(app.port) as client:
            return (await client.get("/a.mp4", method="HEAD")).status

    async with running_app(config_for(fake)) as app:
        asking = [asyncio.create_task(head(app)) for _ in range(100)]
        await eventually(lambda: len(app.active) == 100 and fake.stalled == 1)
        fake.release()
        assert await asyncio.gather(*asking) == [200] * 100
    assert len(fake.requests) == 1


async def test_a_leader_that_leaves_is_followed(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
    async with running_app(config_for(fake)) as app:
        leader = await RawClient.connect(app.port)
        await leader.ask("/a.mp4")
        await eventually(lambda: fake.stalled == 1)
        followers = [asyncio.create_task(get(app)) for _ in range(10)]
        await eventually(lambda: len(app.active) == 11)
        leader.reset()
        assert await asyncio.gather(*followers) == [(200, FILM)] * 10
        await eventually(lambda: app.acquired == 0)
    # The leader's, its successor's, and one read for each of the others.
    assert len(fake.requests) == 1 + 1 + 9


async def test_what_is_missing_is_missing_for_all(fake: FakeS3) -> None:
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
    async with running_app(config_for(fake)) as app:
        asking = [asyncio.create_task(get(app)) for _ in range(50)]
        await eventually(lambda: len(app.active) == 50 and fake.stalled == 1)
        fake.release()
        answers = await asyncio.gather(*asking)
    assert {status for status, _ in answers} == {404}
    assert len(fake.requests) == 1


async def test_an_unsatisfiable_range_does_not_hold_up_the_others(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
    async with running_app(config_for(fake)) as app:
        beyond = asyncio.create_task(get(app, Range="bytes=9999999-"))
        await eventually(lambda: fake.stalled == 1)
        others = [asyncio.create_task(get(app, Range="bytes=0-9")) for _ in range(20)]
        await eventually(lambda: len(app.active) == 21)
        fake.release()
        assert (await beyond)[0] == 416
        assert await asyncio.gather(*others) == [(206, FILM[:10])] * 20
    assert len(fake.seen("HEAD")) == 1
    assert len(fake.seen("GET")) == 21


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 416), ({"If_Match": '"other"'}, 412), ({"If_Range": '"other"'}, 200)],
)
@pytest.mark.parametrize("told", ["Content-Range", "document", "nowhere"])
async def test_what_is_beyond_the_end(
    fake: FakeS3, headers: dict[str, str], status: int, told: str
) -> None:
    fake.put("a.mp4", FILM)
    if told != "Content-Range":
        size = f"<ActualObjectSize>{len(FILM)}</ActualObjectSize>" if told == "document" else ""
        document = f"<Error><Code>InvalidRange</Code>{size}</Error>".encode()
        fake.misbehave(faults.answered(416, document), times=1)
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        response = await client.get("/a.mp4", Range="bytes=9999999-", **headers)
    assert response.status == status
    assert (response.headers.get("content-range") == f"bytes */{len(FILM)}") is (status == 416)
    if status == 416:
        methods = ["GET"] if told != "nowhere" else ["GET", "HEAD"]
        assert [seen.method for seen in fake.requests] == methods
