"""The HTTP session: each hole of the stock one stays closed.

These tests go past the origin's own admission and checks, to the client that uses the session.
"""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError

from rangeserver.config import Config
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.client import open_client
from rangeserver.origin.deadlines import Deadline, Deadlines
from rangeserver.origin.pool import Pool, through_botocore
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER, Answer, Fault
from tests.fakes.s3 import FakeS3
from tests.support import acquired_connections, config_for, eventually, idle_connections

BODY = bytes(range(256)) * 2_000


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[Any, Pool]]:
    """A client, and the pool that it sends through."""
    pool = Pool(config.origin.pool_wait_seconds)
    async with open_client(config.origin, pool) as client:
        yield client, pool


async def get(client: Any, fake: FakeS3) -> bytes:
    answer = await client.get_object(Bucket=fake.bucket, Key="a")
    async with answer["Body"] as body:
        data = await body.read()
    assert isinstance(data, bytes)
    return data


async def test_the_wait_for_a_connection_ends(fake: FakeS3) -> None:
    fake.put("a", BODY)
    fake.misbehave(faults.stall_after(10), times=1)
    config = config_for(
        fake, origin={"max_connections": 1, "pool_wait_seconds": 0.2, "connect_seconds": 0.2}
    )
    async with opened(config) as (client, pool):
        answer: Any = await client.get_object(Bucket=fake.bucket, Key="a")
        began = time.monotonic()
        with pytest.raises(ConnectTimeoutError):
            await client.get_object(Bucket=fake.bucket, Key="a")
        assert 0.3 < time.monotonic() - began < 2
        answer["Body"].close()
        assert await get(client, fake) == BODY
        assert acquired_connections(pool) == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(fake: FakeS3, status: int) -> None:
    fake.put("a", BODY)
    async with FakeS3() as elsewhere, opened(config_for(fake)) as (client, _):
        elsewhere.put("a", BODY)
        fake.misbehave(
            faults.redirect(status, f"{elsewhere.endpoint_url}/films/a"), method=None, times=1
        )
        with pytest.raises(ClientError):
            await get(client, fake)
        assert elsewhere.requests == []
        assert await get(client, fake) == BODY


async def test_a_field_that_is_not_utf8_is_hidden_and_leaks_nothing(fake: FakeS3) -> None:
    fake.put("a", BODY, x_amz_meta_bad="caf\xe9", x_amz_meta_good="tea")
    async with opened(config_for(fake, origin={"max_connections": 1})) as (client, pool):
        for _ in range(5):
            answer = await client.head_object(Bucket=fake.bucket, Key="a")
            assert answer["Metadata"] == {"good": "tea"}
        assert await get(client, fake) == BODY
        assert acquired_connections(pool) == 0


@pytest.mark.parametrize(
    "fault",
    [
        faults.header("x-amz-missing-meta", "few"),
        faults.status_line("garbage"),
        faults.header("X-Long", "x" * 9000),
        faults.reset_after(BEFORE_HEADER),
    ],
)
async def test_an_answer_that_cannot_be_parsed_is_closed(fake: FakeS3, fault: faults.Fault) -> None:
    fake.put("a", BODY)
    # The body is held back: only a closed connection gives it up.
    fake.misbehave(faults.all_of(fault, faults.stall_after(100)), times=10)
    async with opened(config_for(fake, origin={"max_connections": 1})) as (client, pool):
        for _ in range(5):
            with pytest.raises((BotoCoreError, ValueError)), through_botocore(Attempt()):
                await client.get_object(Bucket=fake.bucket, Key="a")
            assert acquired_connections(pool) == 0
        await eventually(lambda: fake.open_connections == 0)


async def test_an_answer_nobody_waits_for_any_more_is_closed(fake: FakeS3) -> None:
    fake.put("a", BODY)
    fake.misbehave(faults.stall_after(100))

    async def ask() -> None:
        with through_botocore(Attempt()):
            await client.get_object(Bucket=fake.bucket, Key="a")
            # It is here, and not yet handed to anyone who would close it.
            await asyncio.Event().wait()

    async with opened(config_for(fake)) as (client, pool):
        task = asyncio.create_task(ask())
        await eventually(lambda: fake.stalled == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert acquired_connections(pool) == 0
        await eventually(lambda: fake.open_connections == 0)


async def test_success_closes_nothing(fake: FakeS3) -> None:
    fake.put("a", BODY)
    async with opened(config_for(fake)) as (client, pool):
        with through_botocore(Attempt()):
            answer: Any = await client.get_object(Bucket=fake.bucket, Key="a")
        assert await answer["Body"].read() == BODY
        answer["Body"].close()
        assert idle_connections(pool) == 1


async def test_each_task_closes_only_what_it_opened(fake: FakeS3) -> None:
    fake.put("a", BODY)
    fake.put("stalled", BODY)
    fake.misbehave(faults.stall_after(BEFORE_HEADER), key="stalled")

    async def ask(key: str) -> Any:
        with through_botocore(Attempt()):
            return await client.get_object(Bucket=fake.bucket, Key=key)

    async with opened(config_for(fake)) as (client, _):
        stalled = asyncio.create_task(ask("stalled"))
        answer = await ask("a")
        await eventually(lambda: fake.stalled == 1)
        stalled.cancel()
        await asyncio.gather(stalled, return_exceptions=True)
        assert await answer["Body"].read() == BODY
        answer["Body"].close()


async def test_concurrent_first_requests_share_one_pool(fake: FakeS3) -> None:
    fake.put("a", BODY)
    async with opened(config_for(fake, origin={"max_connections": 3})) as (client, _):
        most = 0

        def look(_: object) -> None:
            nonlocal most
            most = max(most, fake.open_connections)

        fake.on_request = look
        bodies = await asyncio.gather(*(get(client, fake) for _ in range(20)))
        assert bodies == [BODY] * 20
        assert most == 3


async def test_the_body_is_left_as_it_is_coded(fake: FakeS3) -> None:
    fake.put("a", b"not really gzip", Content_Encoding="gzip")
    async with opened(config_for(fake)) as (client, _):
        assert await get(client, fake) == b"not really gzip"
    assert fake.requests[0].headers["accept-encoding"] == "identity"


async def test_a_closed_session_opens_no_connection(fake: FakeS3) -> None:
    async with opened(config_for(fake)) as (client, _):
        pass
    with pytest.raises((RuntimeError, BotoCoreError), match="closed"):
        await get(client, fake)
    assert fake.requests == []


async def test_a_request_goes_over_a_new_connection_on_demand(fake: FakeS3) -> None:
    fake.put("a", BODY)
    async with opened(config_for(fake)) as (client, pool):
        assert await get(client, fake) == BODY
        assert fake.open_connections == 1
        for _ in range(3):
            with through_botocore(Attempt(new_connection=True)):
                assert await get(client, fake) == BODY
        assert "connection" not in fake.requests[0].headers
        assert [seen.headers["connection"] for seen in fake.requests[1:]] == ["close"] * 3
        assert await get(client, fake) == BODY
        assert idle_connections(pool) == 1
        assert acquired_connections(pool) == 0


@pytest.mark.parametrize("breaks", [faults.fin_after, faults.reset_after])
async def test_a_request_is_sent_once(fake: FakeS3, breaks: Callable[[int], Fault]) -> None:
    """aiohttp would repeat it by itself when a kept connection turns out to be closed."""
    fake.put("a", BODY)
    async with opened(config_for(fake)) as (client, _):
        assert await get(client, fake) == BODY
        fake.misbehave(breaks(BEFORE_HEADER), times=1)
        with pytest.raises(BotoCoreError):
            await get(client, fake)
        assert len(fake.requests) == 2
        assert await get(client, fake) == BODY


async def test_of_an_error_only_the_beginning_is_read(fake: FakeS3) -> None:
    fake.misbehave(lambda _: endless_error(), times=None)
    async with opened(config_for(fake)) as (client, pool):
        with pytest.raises((BotoCoreError, ClientError)), through_botocore(Attempt()):
            await get(client, fake)
        assert acquired_connections(pool) == 0
        await eventually(lambda: fake.open_connections == 0)


def endless_error() -> Answer:
    body = b"<Error><Code>InternalError</Code>" + b" " * 10_000_000
    return Answer(500, (("Content-Length", str(len(body) + 1)),), body)


async def test_the_read_buffer_is_bounded(fake: FakeS3) -> None:
    """A reader that stops holds the origin back instead of filling memory."""
    fake.put("a", bytes(50_000_000))
    async with opened(config_for(fake)) as (client, _):
        answer: Any = await client.get_object(Bucket=fake.bucket, Key="a")
        content = answer["Body"]._raw_stream.content
        await eventually(lambda: bool(content._protocol._reading_paused))
        assert content._size <= 256 * 1024  # what the event loop reads at a time
        answer["Body"].close()


class Held:
    """What a request has in hand, such as an open file."""


async def test_an_idle_connection_keeps_nothing_of_the_request_it_was_opened_for(
    fake: FakeS3,
) -> None:
    """Not even of one that failed: its error leads to its frames, and the collector to nothing."""
    fake.put("a", BODY)
    seen: list[weakref.ref[Held]] = []

    async def request(client: Any) -> None:
        held = Held()
        seen.append(weakref.ref(held))
        with Deadline(Deadlines(10.0)) as deadline, through_botocore(Attempt(deadline=deadline)):
            await get(client, fake)
        msg = "something else"
        raise RuntimeError(msg)

    async with opened(config_for(fake)) as (client, pool):
        gc.disable()
        try:
            task = asyncio.create_task(request(client))
            await asyncio.wait([task])
            assert isinstance(task.exception(), RuntimeError)
            del task
            assert idle_connections(pool) == 1
            assert seen[0]() is None
        finally:
            gc.enable()
