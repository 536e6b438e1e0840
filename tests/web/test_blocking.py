"""Nothing that rangeserver calls while it serves blocks the event loop."""

from __future__ import annotations

import time

import pytest
from blockbuster import BlockingError, blockbuster_ctx

from rangeserver.web import exchange
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, config_for, running_app


@pytest.mark.fault("C9")
async def test_serving_does_not_block_the_loop(fake: FakeS3) -> None:
    fake.put("a.mp4", bytes(1_000_000))
    async with (
        running_app(config_for(fake)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/a.mp4")).status == 200  # what is loaded once is loaded
        with blockbuster_ctx(scanned_modules=["rangeserver"]):
            for target, status in (("/a.mp4", 206), ("/missing", 404), ("/a/../b", 400)):
                assert (await client.get(target, Range="bytes=5-500000")).status == status
            assert (await client.get("/a.mp4", method="HEAD")).status == 200


async def test_a_call_that_blocks_would_be_found(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[BlockingError] = []

    def blocking_id() -> str:
        try:
            time.sleep(0.001)
        except BlockingError as error:
            found.append(error)
        return "0123456789abcdef"

    monkeypatch.setattr(exchange, "new_request_id", blocking_id)
    async with (
        running_app(config_for(fake)) as app,
        await RawClient.connect(app.port) as client,
    ):
        with blockbuster_ctx(scanned_modules=["rangeserver"]):
            await client.get("/missing")
    assert found
