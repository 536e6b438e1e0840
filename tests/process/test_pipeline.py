"""The requests of one connection, whatever they bring and however they are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from rangeserver.process.closing import has_unread
from rangeserver.process.request_reader import AHEAD_BYTES
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app

CLIP = b"0123456789"
GET = b"GET /%b HTTP/1.1\r\nHost: test\r\n"
CHUNKED = GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"clip": CLIP, "slow": CLIP}


def with_body(size: int) -> tuple[bytes, bytes]:
    return GET % b"clip" + b"Content-Length: %d\r\n\r\n" % size, bytes(size)


async def heard(app: RunningApp) -> None:
    """The server has read all that its one client sent, or reads no more of it."""
    (connection,) = app.server.connections
    transport = connection.transport
    assert transport is not None
    await eventually(lambda: not (transport.is_reading() and has_unread(transport)))


@pytest.mark.fault("B7")
async def test_a_body_is_read_on_though_there_was_too_much_behind_the_one_before(
    fake: FakeS3,
) -> None:
    """Behind chunks only the parser knows where a request begins. It has the next head already when
    reading stops, and of its body what lies ahead; the rest has to be read for it to end.
    """
    fake.misbehave(faults.stall_after(BEFORE_HEADER), key="slow")
    head, body = with_body(36_000)
    more = b"".join(with_body(600_000))
    async with running_app(config_for(fake)) as app, await RawClient.connect(app.port) as client:
        await client.send(CHUNKED % b"slow" + head + body[:1000])
        await eventually(lambda: fake.stalled == 1)
        await client.send(body[1000:26_000])
        await heard(app)
        came = 1000 + AHEAD_BYTES
        await client.send(body[26_000:] + more[:came])
        await heard(app)
        sending = asyncio.create_task(client.send(more[came:]))
        fake.release()
        for _ in range(3):
            assert (await client.response()).body == CLIP
        await sending
        assert (await client.get("/clip")).body == CLIP
