"""The admin listener outlasts the drain and then lets go of everything."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from rangeserver.process import monitoring
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, config_for, eventually, open_descriptors, running_app

FILM = bytes(1 << 20)


async def test_it_answers_during_the_drain_and_not_after() -> None:
    async with FakeS3() as fake:
        fake.put("a.mp4", FILM)
        fake.misbehave(faults.stall_after(1000), key="a.mp4")
        config = config_for(fake, server={"drain_seconds": 20}, admin=True)
        async with AsyncExitStack() as stack:
            app = await stack.enter_async_context(running_app(config))
            client = await RawClient.connect(app.port)
            await client.ask("/a.mp4")
            await eventually(lambda: fake.stalled == 1)
            ending = asyncio.create_task(stack.pop_all().aclose())
            await eventually(lambda: app.active.draining)
            async with await RawClient.connect(app.admin_port) as admin:
                response = await admin.get("/readyz")
                assert response.status == 503
                assert json.loads(response.body)["reason"] == "The server is draining."
                assert (await admin.get("/healthz")).status == 200
                fake.release()
                assert (await client.response()).body == FILM
                client.close()
                await ending
                assert await admin.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await RawClient.connect(app.admin_port)


async def test_it_leaves_nothing_behind() -> None:
    async with FakeS3() as fake:
        before = open_descriptors()
        tasks = len(asyncio.all_tasks())
        async with (
            running_app(config_for(fake, admin=True)) as app,
            await RawClient.connect(app.admin_port) as admin,
        ):
            assert (await admin.get("/healthz")).status == 200
        await eventually(lambda: open_descriptors() == before)
        await eventually(lambda: len(asyncio.all_tasks()) == tasks)


async def test_idle_connections_to_it_take_no_more_than_their_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitoring, "ADMIN_CONNECTIONS", 2)
    async with (
        FakeS3() as fake,
        running_app(config_for(fake, admin=True)) as app,
        await RawClient.connect(app.admin_port) as first,
        await RawClient.connect(app.admin_port) as second,
    ):
        assert (await first.get("/healthz")).status == 200
        assert (await second.get("/healthz")).status == 200
        async with await RawClient.connect(app.admin_port) as third:
            assert (await third.get("/healthz")).status == 200
            assert await first.rest() == b""
            assert (await second.get("/healthz")).status == 200
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/none")).status == 404
