"""One budget of attempts for each response, whatever it is read through, and one for all."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rangeserver.origin.retrying import MAX_TOKENS, Backoff, RetryPolicy
from tests.fakes import faults
from tests.fakes.faults import BEFORE_HEADER, Answer, Fault
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RawResponse, RunningApp, config_for, eventually, running_app

MIB = 1 << 20
BLOCK = 256 << 10
SMALL = random.Random(1).randbytes(100_000)
FILM = random.Random(2).randbytes(5 * MIB)

ATTEMPTS, RESUMES = 3, 6

CACHE = pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"small": SMALL, "film": FILM}


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "next", lambda *_, **__: 0.0)


@pytest.fixture
def without_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No body waits for tokens."""
    policy = functools.partial(RetryPolicy, turn_seconds=0.0)
    monkeypatch.setattr("rangeserver.app.RetryPolicy", policy)


@asynccontextmanager
async def served(
    fake: FakeS3, directory: Path, *, cached: bool, ttl_seconds: float = 0.0, **origin: Any
) -> AsyncIterator[RunningApp]:
    cache = {"enabled": cached, "directory": str(directory), "min_free_bytes": 0}
    often = {"max_attempts": ATTEMPTS, "max_resumes": RESUMES, "hedge_percent": 0}
    config = config_for(
        fake,
        origin={**often, **origin},
        cache={**cache, "block_bytes": BLOCK},
        ttl_seconds=ttl_seconds,
    )
    async with running_app(config) as app:
        yield app
        await eventually(lambda: not app.active and not app.acquired)


async def get(app: RunningApp, target: str, **headers: str) -> RawResponse:
    async with await RawClient.connect(app.port) as client:
        return await client.get(target, **headers)


def halved(answer: Answer) -> Answer:
    """The body ends after half of it."""
    return faults.fin_after(len(answer.body) // 2)(answer)


def without_end(answer: Answer) -> Answer:
    """The same, of a body whose end nothing tells but that of its connection."""
    return faults.until_close(halved(answer))


# --- of one response


@pytest.mark.fault("A29")
@CACHE
@pytest.mark.usefixtures("without_pauses")
async def test_bodies_that_end_after_half_are_continued_as_often_as_allowed(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    """Whatever came of a block that cannot be read any more is no progress."""
    fake.misbehave(halved)
    async with served(fake, tmp_path, cached=cached) as app:
        response = await get(app, "/small")
        assert (response.status, response.complete) == (200, False)
        assert SMALL.startswith(response.body)
        assert len(fake.requests) == 1 + RESUMES


@CACHE
@pytest.mark.parametrize("fault", [halved, without_end])
async def test_without_resumes_the_first_body_that_breaks_is_the_last(
    fake: FakeS3, tmp_path: Path, fault: Fault, *, cached: bool
) -> None:
    fake.misbehave(fault)
    async with served(fake, tmp_path, cached=cached, max_resumes=0) as app:
        response = await get(app, "/small", Range=f"bytes=0-{len(SMALL) - 1}")
        assert (response.status, response.complete) == (206, False)
        assert len(fake.requests) == 1


@CACHE
@pytest.mark.usefixtures("without_pauses")
async def test_bodies_that_never_begin_are_asked_for_as_often_as_allowed(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    fake.misbehave(faults.fin_after(0))
    async with served(fake, tmp_path, cached=cached) as app:
        assert (await get(app, "/small")).status == 502
        assert len(fake.requests) == ATTEMPTS


@CACHE
@pytest.mark.usefixtures("without_pauses")
async def test_what_failed_for_the_facts_counts_for_the_bytes(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    """The attempts of a response are counted, not those of its parts."""
    fake.misbehave(faults.error(500, "InternalError"), times=ATTEMPTS - 1)
    fake.misbehave(faults.fin_after(0))
    async with served(fake, tmp_path, cached=cached) as app:
        assert (await get(app, "/small")).status == 502
        assert len(fake.requests) == ATTEMPTS


@CACHE
@pytest.mark.usefixtures("without_pauses")
async def test_each_mebibyte_that_the_client_got_restores_the_budget(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    fake.misbehave(faults.fin_after(MIB + BLOCK // 2))
    async with served(fake, tmp_path, cached=cached, max_resumes=1) as app:
        assert (await get(app, "/film")).body == FILM
        assert fake.sent["film"] == len(FILM)


@CACHE
@pytest.mark.usefixtures("without_pauses")
async def test_an_object_that_always_breaks_costs_the_others_nothing(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    """What another needs for its own failure that passes is there."""
    fake.put("well", SMALL)
    fake.misbehave(halved, key="small")
    fake.misbehave(faults.error(500, "InternalError"), key="well", times=1)
    async with served(fake, tmp_path, cached=cached) as app:
        broken = asyncio.create_task(get(app, "/small"))
        assert (await get(app, "/well")).body == SMALL
        assert not (await broken).complete
        assert app.s3.upstream.retry_tokens._tokens > MAX_TOKENS - 2 * RESUMES


# --- of several that wait for the same


async def viewers(app: RunningApp, count: int, target: str) -> Sequence[asyncio.Task[RawResponse]]:
    tasks = [asyncio.create_task(get(app, target)) for _ in range(count)]
    await eventually(lambda: len(app.active) == count)
    return tasks


async def test_a_break_costs_all_who_wait_one_request_at_the_next_byte(
    fake: FakeS3, tmp_path: Path
) -> None:
    """Nothing that has come is fetched again."""
    broken = faults.all_of(faults.stall_after(BEFORE_HEADER), faults.fin_after(40_000))
    fake.misbehave(broken, times=1)
    async with served(fake, tmp_path, cached=True) as app:
        tasks = await viewers(app, 20, "/small")
        fake.release()
        for response in await asyncio.gather(*tasks):
            assert (response.status, response.body) == (200, SMALL)
        first, second = fake.requests
        assert second.headers["range"] == f"bytes=40000-{len(SMALL) - 1}"
        assert second.headers["if-match"] == fake.etag("small")
        assert first.headers["range"] == f"bytes=0-{MIB - 1}"
    assert fake.sent["small"] == len(SMALL)


async def test_attempts_in_vain_are_shared_by_all_who_wait(fake: FakeS3, tmp_path: Path) -> None:
    fake.misbehave(faults.all_of(halved, faults.stall_after(BEFORE_HEADER)))
    async with served(fake, tmp_path, cached=True, max_resumes=2) as app:
        tasks = await viewers(app, 20, "/small")
        fake.release()
        for response in await asyncio.gather(*tasks):
            assert (response.status, response.complete) == (200, False)
        # One for each that comes too late for the others', at most.
        assert len(fake.requests) <= 1 + 2 + 20


# --- of all


@CACHE
@pytest.mark.usefixtures("without_pauses", "without_turns")
async def test_an_origin_that_fails_everybody_gets_one_request_for_each(
    fake: FakeS3, tmp_path: Path, *, cached: bool
) -> None:
    """Neither is a first resume free, nor do heads earn what bodies that never come cost."""
    clients = 40
    for number in range(clients):
        fake.put(f"film{number}", SMALL)
    fake.misbehave(halved)
    async with served(fake, tmp_path, cached=cached, ttl_seconds=60.0) as app:

        async def everybody() -> int:
            before = len(fake.requests)
            asked = (get(app, f"/film{number}") for number in range(clients))
            assert not any(response.complete for response in await asyncio.gather(*asked))
            return len(fake.requests) - before

        assert await everybody() == clients + MAX_TOKENS
        for _ in range(3):
            assert await everybody() <= clients


# --- an origin that is away for a while

Away = Callable[[FakeS3], Any]


@asynccontextmanager
async def refusing(fake: FakeS3) -> AsyncIterator[None]:
    """It is restarted."""
    await fake.refuse()
    try:
        yield
    finally:
        await fake.listen()


@asynccontextmanager
async def silent(fake: FakeS3) -> AsyncIterator[None]:
    """It takes connections and says nothing, on those that it has as well."""
    fake.misbehave(faults.stall_after(BEFORE_HEADER), method=None)
    try:
        yield
    finally:
        fake.behave()


AWAY = pytest.mark.parametrize("away", [refusing, silent])


@asynccontextmanager
async def watching(
    app: RunningApp, keys: Sequence[str]
) -> AsyncIterator[Sequence[asyncio.Task[bytes]]]:
    """Viewers whose films have begun."""
    async with AsyncExitStack() as stack:
        clients = []
        for key in keys:
            client = await stack.enter_async_context(await RawClient.connect(app.port))
            await client.ask(f"/{key}")
            assert (await client.head())[0] == 200
            clients.append(client)

        async def body(client: RawClient) -> bytes:
            received = bytearray()
            while len(received) < len(FILM) and (more := await client.receive(MIB)):
                received += more
            return bytes(received)

        yield [asyncio.create_task(body(client)) for client in clients]


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rangeserver.origin.circuit.MIN_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("rangeserver.origin.circuit.MAX_PAUSE_SECONDS", 0.1)
    pause = Backoff.next
    monkeypatch.setattr(Backoff, "next", lambda *of, **how: pause(*of, **how) / 10)


@pytest.mark.fault("A28")
@CACHE
@AWAY
@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("which", ["same", "distinct"])
async def test_bodies_that_have_begun_outlast_an_origin_that_is_away(
    fake: FakeS3,
    tmp_path: Path,
    away: Away,
    count: int,
    which: str,
    *,
    cached: bool,
) -> None:
    """An open circuit as well, and however many wait; each of them in vain for several times."""
    keys = [f"film{number if which == 'distinct' else 0}" for number in range(count)]
    for key in keys:
        fake.put(key, FILM)
    fake.misbehave(faults.stall_after(2 * BLOCK))
    async with (
        served(fake, tmp_path, cached=cached, idle_seconds=0.5) as app,
        watching(app, keys) as tasks,
    ):
        await eventually(lambda: fake.stalled >= len(set(keys)))
        fake.behave()
        async with away(fake):
            await eventually(lambda: any(line.origin.resumes > 2 for line in app.active))
            # Whatever was read ahead for it, one viewer alone knows nothing of all others.
            assert count > 1 or not app.s3.upstream.circuit.is_open
        for body in await asyncio.gather(*tasks):
            assert len(body) == len(FILM)
            assert body == FILM


@AWAY
@pytest.mark.usefixtures("short_pauses")
async def test_viewers_of_two_processes_outlast_it_too(
    fake: FakeS3, tmp_path: Path, away: Away
) -> None:
    """Who waits for blocks that another process fetches waits for that one's attempts."""
    fake.misbehave(faults.stall_after(2 * BLOCK))
    async with (
        served(fake, tmp_path, cached=True, idle_seconds=0.5) as one,
        served(fake, tmp_path, cached=True, idle_seconds=0.5) as other,
        watching(one, ["film"] * 2) as tasks,
        watching(other, ["film"] * 2) as others,
    ):
        await eventually(lambda: fake.stalled > 0)
        fake.behave()
        async with away(fake):
            running = (*one.active, *other.active)
            await eventually(lambda: any(line.origin.resumes > 2 for line in running))
        for body in await asyncio.gather(*tasks, *others):
            assert body == FILM
