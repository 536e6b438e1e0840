"""Exact counters after known requests."""

from __future__ import annotations

from rangeserver.app import METRICS
from tests.exposition import Scrape, scrape
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app

FILM = bytes(range(256)) * 4096  # 1 MiB
RESPONSES = "rangeserver_responses_total"


def seen(app: RunningApp) -> Scrape:
    return scrape(app.app[METRICS])


async def settled(app: RunningApp, responses: int) -> Scrape:
    """The metrics once so many responses have ended."""
    await eventually(lambda: sum(seen(app).named(RESPONSES).values()) >= responses)
    await eventually(lambda: app.acquired == 0)
    now = seen(app)
    assert sum(now.named(RESPONSES).values()) == responses  # each once
    assert now("rangeserver_response_duration_seconds_count") == responses
    assert now("rangeserver_active_streams") == 0
    assert now("rangeserver_origin_connections", state="in_use") == 0
    assert now("rangeserver_origin_connections", state="waiting") == 0
    return now


async def test_complete_responses(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    async with running_app(config_for(fake)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.get("/a.mp4")
            await client.get("/a.mp4", Range="bytes=5-14")
            await client.get("/a.mp4", method="HEAD")
            await client.get("/a.mp4", method="OPTIONS")
            missing = await client.get("/b.mp4")
        now = await settled(app, 5)
    assert now(RESPONSES, method="GET", status="200", outcome="complete") == 1
    assert now(RESPONSES, method="GET", status="206", outcome="complete") == 1
    assert now(RESPONSES, method="HEAD", status="200", outcome="complete") == 1
    assert now(RESPONSES, method="OPTIONS", status="204", outcome="complete") == 1
    assert now(RESPONSES, method="GET", status="404", outcome="complete") == 1
    assert now("rangeserver_response_bytes_total", source="origin") == len(FILM) + 10
    assert now("rangeserver_response_bytes_total", source="none") == len(missing.body)
    assert now("rangeserver_time_to_first_byte_seconds_count", source="origin") == 3
    assert now("rangeserver_time_to_first_byte_seconds_count", source="none") == 2
    assert now("rangeserver_origin_bytes_total") == len(FILM) + 10
    requests = "rangeserver_origin_requests_total"
    assert now(requests, outcome="ok") == 3  # one HEAD, two GET
    assert now(requests, outcome="not_found") == 1
    assert len(fake.requests) == 4
    assert now("rangeserver_object_facts_total", result="asked") == 4
    assert now("rangeserver_origin_time_to_first_byte_seconds_count") == len(fake.requests)


async def test_bytes_are_seen_while_a_film_plays(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(1000))
    async with running_app(config_for(fake)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.ask("/a.mp4")
            sent = "rangeserver_response_bytes_total"
            await eventually(lambda: seen(app)(sent, source="origin") == 1000)
            assert seen(app)("rangeserver_active_streams") == 1
            assert seen(app)("rangeserver_origin_connections", state="in_use") == 1
            fake.release()
            assert (await client.response()).complete
        now = await settled(app, 1)
    assert now(sent, source="origin") == len(FILM)


async def test_a_client_that_leaves(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(1000))
    async with running_app(config_for(fake)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.ask("/a.mp4")
            await client.head()
            await eventually(lambda: fake.stalled == 1)
            client.reset()
        now = await settled(app, 1)
    assert now(RESPONSES, method="GET", status="200", outcome="client_gone") == 1
    assert now("rangeserver_response_bytes_total", source="origin") == 1000


async def test_an_origin_that_fails_in_mid_body(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.reset_after(1000))
    async with running_app(config_for(fake)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.ask("/a.mp4")
            await client.rest()
        now = await settled(app, 1)
    assert now(RESPONSES, method="GET", status="200", outcome="origin_failed") == 1


async def test_an_origin_that_fails_before_the_body(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.error(503, "SlowDown"))
    async with running_app(config_for(fake)) as app:
        async with await RawClient.connect(app.port) as client:
            answer = await client.get("/a.mp4")
        now = await settled(app, 1)
    assert now(RESPONSES, method="GET", status="503", outcome="complete") == 1
    assert now("rangeserver_origin_requests_total", outcome="throttled") == 1
    # Our own words, though an answer from the origin was planned.
    assert now("rangeserver_response_bytes_total", source="none") == len(answer.body)
    assert now("rangeserver_response_bytes_total", source="origin") == 0


async def test_resumes(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.fin_after(1000), times=2)
    async with running_app(config_for(fake, origin={"max_resumes": 3})) as app:
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/a.mp4")).body == FILM
        now = await settled(app, 1)
    assert now("rangeserver_origin_resumes_total") == 2
    assert now("rangeserver_origin_bytes_total") == len(FILM)
    assert now(RESPONSES, method="GET", status="200", outcome="complete") == 1


async def test_every_attempt_at_the_origin_counts(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.error(500, "InternalError"), method="HEAD", times=1)
    async with running_app(config_for(fake, origin={"max_attempts": 2})) as app:
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/a.mp4", method="HEAD")).status == 200
        now = await settled(app, 1)
    assert now("rangeserver_origin_requests_total", outcome="failed") == 1
    assert now("rangeserver_origin_requests_total", outcome="ok") == 1


async def test_too_late_and_given_up_are_told_apart(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(faults.BEFORE_HEADER), method="HEAD")
    requests = "rangeserver_origin_requests_total"
    async with running_app(config_for(fake, origin={"response_seconds": 0.2})) as app:
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/a.mp4", method="HEAD")).status == 504
        assert (await settled(app, 1))(requests, outcome="timeout") == 1
    async with running_app(config_for(fake)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.ask("/a.mp4", method="HEAD")
            await eventually(lambda: fake.stalled == 1)
            client.reset()
        assert (await settled(app, 1))(requests, outcome="abandoned") == 1


async def test_an_origin_that_is_not_there(fake: FakeS3) -> None:
    config = config_for(fake, origin={"endpoint_url": "http://127.0.0.1:9"})
    async with running_app(config) as app:
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/a.mp4")).status == 502
        now = await settled(app, 1)
    assert now("rangeserver_origin_requests_total", outcome="unreachable") == 1


async def test_what_no_middleware_saw(fake: FakeS3) -> None:
    """Requests that cannot be parsed, and connections that are one too many."""
    async with running_app(config_for(fake, server={"max_connections": 1})) as app:
        fake.put("a", b"0123456789")
        fake.misbehave(faults.stall_after(5), key="a")
        async with await RawClient.connect(app.port) as client:
            await client.ask("/a")
            await eventually(lambda: fake.stalled == 1)
            async with await RawClient.connect(app.port) as refused:
                assert (await refused.response()).status == 503
            fake.release()
            assert (await client.response()).complete
            await client.send(b"GET / HTTP/1.1\r\nbroken\r\n\r\n")
            assert (await client.response()).status == 400
        now = await settled(app, 3)
    assert now(RESPONSES, method="other", status="503", outcome="complete") == 1
    assert sum(now.named(RESPONSES).values()) == 3
