"""A body that breaks at the origin, as the client sees it: one clean response, or none."""

from __future__ import annotations

import asyncio

from rangeserver.web.exchange import Exchange, Outcome
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, config_for, eventually, running_app

FILM = bytes(range(256)) * 12_288  # 3 MiB
RESUME = {"max_resumes": 3}


async def test_one_clean_response_and_a_line_that_tells(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.reset_after(1_000_000), times=2)
    finished: list[Exchange] = []
    config = config_for(fake, origin=RESUME)
    async with (
        running_app(config, observers=[finished.append]) as app,
        await RawClient.connect(app.port) as client,
    ):
        response = await client.get("/a.mp4", Range="bytes=7-2999999")
        assert (response.status, response.complete) == (206, True)
        assert response.body == FILM[7:3_000_000]
        again = await client.get("/a.mp4", method="HEAD")  # the connection is as good as new
        assert again.status == 200
        await eventually(lambda: len(finished) == 2)
    assert finished[0].outcome is Outcome.COMPLETE
    assert finished[0].fields()["resumes"] == 2
    assert finished[1].fields()["resumes"] == 0


async def test_each_range_of_several_is_resumed(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.fin_after(100), times=1)
    fake.misbehave(faults.fin_after(100), times=1, skip=2)
    async with (
        running_app(config_for(fake, origin=RESUME)) as app,
        await RawClient.connect(app.port) as client,
    ):
        response = await client.get("/a.mp4", Range="bytes=0-999,5000-5999")
        assert (response.status, response.complete) == (206, True)
        assert FILM[0:1000] in response.body
        assert FILM[5000:6000] in response.body


async def test_a_new_version_aborts_what_has_begun(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(2_000_000), times=1)
    config = config_for(fake, origin={**RESUME, "idle_seconds": 0.3})
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        await client.ask("/a.mp4")
        await eventually(lambda: fake.stalled == 1)
        fake.put("a.mp4", bytes(len(FILM)))
        status, _ = await client.head()
        assert status == 200
        received = await client.rest()
    assert len(received) < len(FILM)
    assert received == FILM[: len(received)]


async def test_a_new_version_is_served_when_nothing_was_sent(fake: FakeS3) -> None:
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(0), times=1)
    config = config_for(fake, origin={"max_attempts": 2, "idle_seconds": 0.3})
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        await client.ask("/a.mp4", Range="bytes=0-999999")
        await eventually(lambda: fake.stalled == 1)
        fake.put("a.mp4", bytes(500_000))
        response = await client.response()
        assert response.status == 206
        assert response.headers["content-range"] == "bytes 0-499999/500000"
        assert response.body == bytes(500_000)


async def test_an_origin_that_is_restarted(fake: FakeS3) -> None:
    """It refuses connections for longer than retries of a request would wait."""
    fake.put("a.mp4", FILM)
    fake.misbehave(faults.stall_after(1_000_000), times=1)
    finished: list[Exchange] = []
    config = config_for(fake, origin={"max_resumes": 6})
    async with (
        running_app(config, observers=[finished.append]) as app,
        await RawClient.connect(app.port) as client,
    ):
        receiving = asyncio.create_task(client.get("/a.mp4"))
        await eventually(lambda: fake.stalled == 1)
        await fake.refuse()
        (running,) = app.active
        await eventually(lambda: running.origin.resumes == 2)
        await fake.listen()
        response = await receiving
        assert (response.complete, response.body == FILM) == (True, True)
        await eventually(lambda: len(finished) == 1)
