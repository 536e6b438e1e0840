from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from rangeserver.process.places import MAX_REFUSALS
from rangeserver.process.sockets import BACKLOG
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, config_for, eventually, running_app


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with FakeS3() as origin:
        origin.put("a.mp4", b"0123456789")
        yield origin


async def test_refused_connections_take_no_place(fake: FakeS3) -> None:
    config = config_for(fake, server={"max_connections": 3, "max_connections_per_client": 2})
    async with running_app(config) as app, AsyncExitStack() as stack:
        admitted = [
            await stack.enter_async_context(await RawClient.connect(app.port)) for _ in range(2)
        ]
        for client in admitted:
            assert (await client.get("/a.mp4")).status == 200
        refused = await stack.enter_async_context(await RawClient.connect(app.port))
        answer = await refused.response()
        assert answer.status == 503
        assert json.loads(answer.body)["error"]["code"] == "too_many_connections"
        assert app.server.places.taken == 2
        admitted[0].close()
        await eventually(lambda: app.server.places.taken == 1)
        again = await stack.enter_async_context(await RawClient.connect(app.port))
        assert (await again.get("/a.mp4")).status == 200


async def test_only_so_many_refusals_are_answered_at_once(fake: FakeS3) -> None:
    config = config_for(fake, server={"max_connections": 1})
    async with running_app(config) as app, AsyncExitStack() as stack:
        admitted = await stack.enter_async_context(await RawClient.connect(app.port))
        assert (await admitted.get("/a.mp4")).status == 200
        clients = [
            await stack.enter_async_context(await RawClient.connect(app.port))
            for _ in range(MAX_REFUSALS + 20)
        ]
        answers = await asyncio.gather(*(client.rest() for client in clients))
        assert sum(answer.startswith(b"HTTP/1.1 503") for answer in answers) == MAX_REFUSALS
        assert answers.count(b"") == 20
        await eventually(lambda: app.server.places.refusing == 0)
        assert (await admitted.get("/a.mp4")).status == 200


async def test_the_backlog_is_ours_and_not_aiohttps(fake: FakeS3) -> None:
    async with running_app(config_for(fake)) as app:
        (site,) = app.runner.sites
        assert site._backlog == BACKLOG
