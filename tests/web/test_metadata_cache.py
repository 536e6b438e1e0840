"""The metadata cache, as clients and the origin see it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from rangeserver.app import METRICS
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RawResponse, RunningApp, config_for, eventually, running_app

OLD = random.Random(5).randbytes(1_000_000)
NEW = random.Random(6).randbytes(1_500_000)
LONG = 3600.0
"""Seconds; no test takes as long."""

Asked = tuple[str, str | None, str | None]


def asked(fake: FakeS3) -> list[Asked]:
    """Method, Range and If-Match of all requests that the origin saw."""
    return [
        (each.method, each.headers.get("range"), each.headers.get("if-match"))
        for each in fake.requests
    ]


def facts(app: RunningApp) -> dict[str, float]:
    now = scrape(app.app[METRICS])
    results = ("known", "shared", "asked")
    return {name: now("rangeserver_object_facts_total", result=name) for name in results}


@pytest.fixture(autouse=True)
def stored(fake: FakeS3) -> None:
    fake.put("a.mp4", OLD, etag='"v1"')


@asynccontextmanager
async def believing(
    fake: FakeS3, ttl_seconds: float = LONG, origin: Mapping[str, object] | None = None
) -> AsyncIterator[tuple[RunningApp, RawClient]]:
    config = config_for(fake, ttl_seconds=ttl_seconds, origin=origin)
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        yield app, client
        await eventually(lambda: len(app.active) == 0 and app.acquired == 0)
        assert app.s3.upstream.slots.in_use == 0


# --- believed for a while


@pytest.mark.parametrize("first", ["GET", "HEAD"])
async def test_what_is_known_is_not_asked_again(fake: FakeS3, first: str) -> None:
    async with believing(fake) as (app, client):
        await client.get("/a.mp4", method=first, Range="bytes=0-9")
        del fake.requests[:]
        for _ in range(2):
            response = await client.get("/a.mp4", Range="bytes=-5")
            assert (response.status, response.body) == (206, OLD[-5:])
        assert (await client.get("/a.mp4")).body == OLD
        assert (await client.get("/a.mp4", method="HEAD")).status == 200
        assert (await client.get("/a.mp4", If_None_Match='"v1"')).status == 304
        assert facts(app) == {"asked": 1, "known": 5, "shared": 0}
    assert asked(fake) == [
        ("GET", "bytes=999995-999999", '"v1"'),
        ("GET", "bytes=999995-999999", '"v1"'),
        ("GET", "bytes=0-999999", '"v1"'),
    ]


async def test_without_belief_each_answer_has_its_own(fake: FakeS3) -> None:
    async with believing(fake, 0.0) as (app, client):
        for _ in range(3):
            assert (await client.get("/a.mp4", Range="bytes=0-9")).body == OLD[:10]
        assert facts(app) == {"asked": 3, "known": 0, "shared": 0}
    assert asked(fake) == [("GET", "bytes=0-9", None)] * 3


async def test_belief_ends(fake: FakeS3) -> None:
    async with believing(fake, 0.05) as (_, client):
        await client.get("/a.mp4", method="HEAD")
        fake.put("a.mp4", NEW, etag='"v2"')
        await asyncio.sleep(0.06)
        response = await client.get("/a.mp4", method="HEAD")
        assert response.headers["etag"] == '"v2"'
    assert [seen.method for seen in fake.requests] == ["HEAD", "HEAD"]


async def test_an_object_replaced_meanwhile_is_answered_as_it_is_now(fake: FakeS3) -> None:
    async with believing(fake) as (_, client):
        await client.get("/a.mp4", Range="bytes=0-9")
        fake.put("a.mp4", NEW, etag='"v2"')
        head = await client.get("/a.mp4", method="HEAD")
        assert head.headers["etag"] == '"v1"'  # what costs no read may be as old as is allowed
        response = await client.get("/a.mp4", Range="bytes=999990-")
        assert response.status == 206
        assert response.headers["etag"] == '"v2"'
        assert response.headers["content-range"] == "bytes 999990-1499999/1500000"
        assert response.body == NEW[999_990:]
        head = await client.get("/a.mp4", method="HEAD")
        assert head.headers["etag"] == '"v2"'
    assert asked(fake) == [
        ("GET", "bytes=0-9", None),
        ("GET", "bytes=999990-999999", '"v1"'),
        ("GET", "bytes=999990-", None),
    ]


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"Range": "bytes=1400000-"}, 206, NEW[1_400_000:]),
        ({"Range": "bytes=1400000-", "If_Match": '"v2"'}, 206, NEW[1_400_000:]),
        ({"Range": "bytes=0-9", "If_Match": '"v2"'}, 206, NEW[:10]),
        ({"Range": "bytes=0-9", "If_Range": '"v2"'}, 206, NEW[:10]),
        ({"Range": "bytes=1400000-", "If_Range": '"v1"'}, 200, NEW),
        ({"If_Match": '"v2"'}, 200, NEW),
    ],
)
async def test_nothing_is_refused_because_of_what_was_believed(
    fake: FakeS3, headers: dict[str, str], status: int, body: bytes
) -> None:
    async with believing(fake) as (_, client):
        await client.get("/a.mp4", Range="bytes=0-9")
        fake.put("a.mp4", NEW, etag='"v2"')
        response = await client.get("/a.mp4", **headers)
        assert (response.status, response.body) == (status, body)
        assert response.headers["etag"] == '"v2"'


@pytest.mark.parametrize(
    ("headers", "status"), [({"Range": "bytes=1000000-"}, 416), ({"If_Match": '"v0"'}, 412)]
)
async def test_what_is_refused_was_asked_for(
    fake: FakeS3, headers: dict[str, str], status: int
) -> None:
    """Once for each refusal, or once for many at the same time: never is one given up."""
    async with believing(fake) as (app, client):
        await client.get("/a.mp4", Range="bytes=0-9")
        assert (await client.get("/a.mp4", **headers)).status == status
        assert len(fake.requests) == 2
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(await RawClient.connect(app.port))
                for _ in range(50)
            ]
            for one in clients:
                await one.ask("/a.mp4", **headers)
            assert {each.status for each in await all_of(clients)} == {status}
        assert 3 <= len(fake.requests) <= 2 + 50


async def test_an_object_that_is_gone_is_not_found_and_not_believed_in(fake: FakeS3) -> None:
    async with believing(fake) as (_, client):
        await client.get("/a.mp4", Range="bytes=0-9")
        fake.delete("a.mp4")
        assert (await client.get("/a.mp4", Range="bytes=0-9")).status == 404
        assert (await client.get("/a.mp4", method="HEAD")).status == 404
    assert asked(fake) == [
        ("GET", "bytes=0-9", None),
        ("GET", "bytes=0-9", '"v1"'),
        ("HEAD", None, None),
    ]


async def test_an_error_is_not_believed(fake: FakeS3) -> None:
    async with believing(fake) as (app, client):
        assert (await client.get("/b.mp4")).status == 404
        fake.put("b.mp4", OLD)
        assert (await client.get("/b.mp4")).body == OLD
        assert facts(app) == {"asked": 2, "known": 0, "shared": 0}


# --- asked for once


async def all_of(clients: Sequence[RawClient]) -> list[RawResponse]:
    return [await client.response() for client in clients]


@asynccontextmanager
async def crowd(
    fake: FakeS3, app: RunningApp, count: int, target: str = "/a.mp4", **headers: str
) -> AsyncIterator[list[RawClient]]:
    """So many clients that all asked, the first of them before the others, and wait."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            client = await stack.enter_async_context(await RawClient.connect(app.port))
            await client.ask(target, **headers)
            clients.append(client)
            await eventually(lambda: len(fake.requests) > 0)
        await eventually(lambda: len(app.active) >= count)
        yield clients


@pytest.mark.parametrize("ttl_seconds", [0.0, LONG])
async def test_a_hundred_at_once_ask_once(fake: FakeS3, ttl_seconds: float) -> None:
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
    async with believing(fake, ttl_seconds) as (app, _):
        async with crowd(fake, app, 100, Range="bytes=5-999") as clients:
            assert asked(fake) == [("GET", "bytes=5-999", None)]
            fake.release()
            for response in await all_of(clients):
                assert (response.status, response.body) == (206, OLD[5:1000])
        assert facts(app) == {"asked": 1, "known": 0, "shared": 99}
    # The first one's answer brought its bytes along; each other names that version.
    assert asked(fake)[1:] == [("GET", "bytes=5-999", '"v1"')] * 99


async def test_facts_are_shared_before_the_first_ones_body_ends(fake: FakeS3) -> None:
    fake.misbehave(faults.stall_after(1000), times=1)
    async with believing(fake, 0.0) as (app, client), crowd(fake, app, 1) as [first]:
        await eventually(lambda: fake.stalled == 1)
        response = await client.get("/a.mp4", Range="bytes=0-9")
        assert response.body == OLD[:10]
        fake.release()
        assert (await first.response()).body == OLD


async def test_one_who_asks_for_facts_alone_shares_them_too(fake: FakeS3) -> None:
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1, method="HEAD")
    async with believing(fake, 0.0) as (app, client):
        async with crowd(fake, app, 1, If_None_Match='"v1"') as [first]:
            await client.ask("/a.mp4", Range="bytes=0-9")
            await eventually(lambda: len(app.active) == 2)
            fake.release()
            assert (await first.response()).status == 304
            assert (await client.response()).body == OLD[:10]
        assert facts(app) == {"asked": 1, "known": 0, "shared": 1}
    assert asked(fake) == [("HEAD", None, None), ("GET", "bytes=0-9", '"v1"')]


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
async def test_when_the_first_one_leaves_the_others_are_served(
    fake: FakeS3, leave: Callable[[RawClient], None]
) -> None:
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
    async with believing(fake, 0.0) as (app, _):
        async with crowd(fake, app, 10, Range="bytes=0-99") as clients:
            assert len(fake.requests) == 1
            leave(clients[0])
            await eventually(lambda: len(app.active) == 9)
            fake.release()
            for response in await all_of(clients[1:]):
                assert (response.status, response.body) == (206, OLD[:100])
        assert facts(app) == {"asked": 1, "known": 0, "shared": 9}
    assert asked(fake) == [("GET", "bytes=0-99", None)] + [("GET", "bytes=0-99", '"v1"')] * 9


async def test_those_who_leave_do_not_disturb_the_first_one(fake: FakeS3) -> None:
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
    async with believing(fake, 0.0) as (app, _), crowd(fake, app, 10) as clients:
        for client in clients[1:]:
            client.reset()
        await eventually(lambda: len(app.active) == 1)
        fake.release()
        assert (await clients[0].response()).body == OLD
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (faults.error(404, "NoSuchKey"), 404),
        (faults.error(403, "AccessDenied"), 403),
        (faults.error(403, "SignatureDoesNotMatch"), 502),
        (faults.error(503, "SlowDown"), 503),
        (faults.error(500, "InternalError"), 502),
    ],
)
async def test_an_error_is_shared(fake: FakeS3, fault: faults.Fault, status: int) -> None:
    fake.misbehave(faults.all_of(fault, faults.stall_after(BEFORE_HEADER)), times=1)
    async with believing(fake) as (app, client):
        async with crowd(fake, app, 20) as clients:
            fake.release()
            responses = await all_of(clients)
        assert len(fake.requests) == 1
        assert [each.status for each in responses] == [status] * 20
        assert all(("retry-after" in each.headers) is (status == 503) for each in responses)
        # Each is told under the id of its own request.
        assert len({each.headers["x-request-id"] for each in responses}) == 20
        assert facts(app) == {"asked": 1, "known": 0, "shared": 19}
        assert (await client.get("/a.mp4")).body == OLD


async def test_a_broken_body_is_the_first_ones_alone(fake: FakeS3) -> None:
    broken = faults.all_of(faults.stall_after(BEFORE_HEADER), faults.fin_after(0))
    fake.misbehave(broken, times=1)
    async with believing(fake) as (app, _), crowd(fake, app, 5) as clients:
        fake.release()
        first, *others = await all_of(clients)
        assert first.status == 502
        assert all(each.body == OLD for each in others)
    assert len(fake.requests) == 5


async def test_a_range_that_is_refused_leaves_facts_to_be_asked_for_once(fake: FakeS3) -> None:
    """The refusal tells no version, so one of those who waited for it asks for all of them."""
    fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
    async with AsyncExitStack() as stack:
        app, first = await stack.enter_async_context(believing(fake, 0.0))
        await first.ask("/a.mp4", Range="bytes=1000000-")
        await eventually(lambda: fake.stalled == 1)
        others = await stack.enter_async_context(crowd(fake, app, 10, Range="bytes=0-9"))
        await eventually(lambda: len(app.active) == 11)
        fake.release()
        for response in await all_of(others):
            assert (response.status, response.body) == (206, OLD[:10])
        assert (await first.response()).status == 416
        assert facts(app) == {"asked": 2, "known": 0, "shared": 9}
    assert asked(fake)[:2] == [("GET", "bytes=1000000-", None), ("HEAD", None, None)]
    assert asked(fake)[2:] == [("GET", "bytes=0-9", '"v1"')] * 10
