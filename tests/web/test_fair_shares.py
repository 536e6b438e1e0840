"""What all clients share, and what one of them can take of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rangeserver.config import Config
from rangeserver.origin import slots
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app

GREEDY, OTHER = "127.0.0.2", "127.0.0.3"
CONNECTIONS = 4
FILM = random.Random(1).randbytes(8 << 20)
"""More than the sockets on its way hold."""

SHORT = FILM[:100_000]


@pytest.fixture(params=["no cache", "past the cache"])
def config(request: pytest.FixtureRequest, fake: FakeS3, tmp_path: Path) -> Config:
    """Few origin connections, and bodies that go straight from the origin to their clients."""
    cache: dict[str, Any] = {"enabled": False}
    if request.param == "past the cache":
        cache = {"enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
    # Whoever waits for a place in vain shall fail the test, and not just take a while.
    origin = {"max_connections": CONNECTIONS, "pool_wait_seconds": 60.0, "response_seconds": 60.0}
    for number in range(2 * CONNECTIONS):
        fake.put(f"film{number}", FILM, Cache_Control="no-store")
    fake.put("short", SHORT, Cache_Control="no-store")
    return config_for(fake, cache=cache, origin=origin)


@pytest.fixture
def any_place_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "IDLE_SECONDS", 0.0)


@pytest.fixture
def any_turn_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "TURN_SECONDS", 0.0)


@asynccontextmanager
async def asking(app: RunningApp, count: int, *, source: str) -> AsyncIterator[Sequence[RawClient]]:
    """So many clients, each with another film begun, of which they take a little."""
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(count):
            connecting = RawClient.connect(app.port, receive_buffer=4096, source=source)
            client = await stack.enter_async_context(await connecting)
            await client.ask(f"/film{number}")
            clients.append(client)
        yield clients


async def all_places_stalled(app: RunningApp) -> None:
    """Wait until every origin connection is held for a client that takes nothing."""
    await eventually(lambda: app.s3.upstream.slots.in_use == CONNECTIONS)
    held = app.s3.upstream.slots._held
    await eventually(lambda: all(slot.idle_since is not None for slot in held))


async def served(app: RunningApp, source: str) -> bool:
    async with await RawClient.connect(app.port, source=source) as client:
        return (await client.get("/short")).body == SHORT


@pytest.mark.fault("B11")
@pytest.mark.usefixtures("any_place_is_idle")
@pytest.mark.parametrize("source", [GREEDY, OTHER])
async def test_stalled_readers_of_all_connections_hold_nobody_up(
    config: Config, source: str
) -> None:
    """Nor others behind the same address; and what they hold up least of all is themselves."""
    async with running_app(config) as app, asking(app, CONNECTIONS, source=GREEDY) as clients:
        await all_places_stalled(app)
        assert await served(app, source)
        for response in await asyncio.gather(*(client.response() for client in clients)):
            assert (response.status, response.body == FILM) == (200, True)


@pytest.mark.usefixtures("any_place_is_idle", "any_turn_is_over")
async def test_more_readers_than_connections_take_turns(fake: FakeS3, config: Config) -> None:
    async with running_app(config) as app, asking(app, 2 * CONNECTIONS, source=GREEDY) as clients:
        # Quick readers could be done before the server looks for idle places: none reads before.
        await eventually(lambda: len(fake.requests) > CONNECTIONS)
        for response in await asyncio.gather(*(client.response() for client in clients)):
            assert (response.status, response.body == FILM) == (200, True)
    assert len(fake.requests) > 2 * CONNECTIONS
    assert {request.headers.get("if-match") for request in fake.requests} <= {
        None,
        fake.etag("film0"),
    }


@pytest.mark.usefixtures("any_turn_is_over")
@pytest.mark.parametrize("control", ["no-store", "max-age=60"])
@pytest.mark.parametrize("source", [GREEDY, OTHER])
async def test_a_busy_client_shares_with_others_and_cuts_none_of_its_own(
    fake: FakeS3, config: Config, source: str, control: str
) -> None:
    """Bodies that come slowly from the origin, to the cache or past it: no place is ever idle."""
    async with running_app(config) as app, AsyncExitStack() as stack:
        slow = []
        for number in range(CONNECTIONS):
            fake.put(f"slow{number}", SHORT, Cache_Control=control)
            fake.misbehave(faults.drip(len(SHORT) // 20, 0.05), key=f"slow{number}", times=1)
            client = await RawClient.connect(app.port, source=GREEDY)
            slow.append(await stack.enter_async_context(client))
            await client.ask(f"/slow{number}")
            assert (await client.head())[0] == 200
        assert await served(app, source)
        for client in slow:
            body = b""
            while len(body) < len(SHORT):
                body += await client.receive()
            assert body == SHORT
        # For one's own requests one's own bodies are not cut: those wait until a place is free.
        continued = sum("if-match" in request.headers for request in fake.requests)
        assert (continued == 0) == (source == GREEDY)


async def test_what_one_client_has_on_its_way_leaves_room_for_others(
    fake: FakeS3, tmp_path: Path
) -> None:
    """Fetches for the cache that get stuck at the origin, more than may be on their way."""
    cache = {"enabled": True, "directory": str(tmp_path), "max_in_flight_bytes": "8MiB"}
    origin = {"idle_seconds": 60.0, "pool_wait_seconds": 60.0, "response_seconds": 60.0}
    config = config_for(fake, cache={**cache, "min_free_bytes": 0}, origin=origin)
    for number in range(12):
        fake.put(f"film{number}", FILM)
        fake.misbehave(faults.stall_after(1000), key=f"film{number}")
    fake.put("short", SHORT)
    async with running_app(config) as app, asking(app, 12, source=GREEDY):
        assert app.cache is not None
        budget = app.cache.budget
        await eventually(lambda: fake.stalled >= 12 and budget.waiting > 0)
        assert await served(app, OTHER)
