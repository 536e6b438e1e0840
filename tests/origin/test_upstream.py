"""What all requests to one endpoint share: places, circuit, credentials, second requests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from rangeserver.errors import (
    CredentialsExpired,
    ObjectNotFound,
    OriginBusy,
    OriginError,
    OriginServerError,
    OriginSuspended,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.metrics import Metrics
from rangeserver.origin.asking import Ask
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.circuit import FAILURES_IN_A_ROW, MIN_PAUSE_SECONDS
from rangeserver.origin.deadlines import Deadline, Deadlines
from rangeserver.origin.upstream import Upstream, open_upstream
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.aws import FakeAws
from tests.fakes.faults import BEFORE_HEADER
from tests.fakes.s3 import FakeS3
from tests.fakes.strict import Everybody, ExpiringS3
from tests.origin.clock import Clock
from tests.support import acquired_connections, config_for, eventually, idle_connections

BODY = bytes(range(256)) * 1_000
MIB = 1 << 20
GET = Ask("GET", "films", "a")


class Course:
    """An upstream, and what is counted of it."""

    def __init__(self, upstream: Upstream, metrics: Metrics) -> None:
        self.upstream = upstream
        self._metrics = metrics

    async def get(self, key: str = "a", method: Any = "GET", within: float = 0.0) -> bytes:
        """Ask, and read to the end; with a deadline of so many seconds, if any."""
        if within:
            with Deadline(Deadlines(within)) as deadline:
                return await self._got(key, method, Attempt(deadline=deadline))
        return await self._got(key, method, Attempt())

    async def _got(self, key: str, method: Any, attempt: Attempt) -> bytes:
        body = bytearray()
        with closing(await self.upstream.request(Ask(method, "films", key), attempt)) as answer:
            while method == "GET" and (part := await answer.read()):
                body += part
        return bytes(body)

    def started(self, times: int = 1) -> list[asyncio.Task[bytes]]:
        return [asyncio.create_task(self.get()) for _ in range(times)]

    def count(self, name: str, **labels: str) -> float:
        return scrape(self._metrics)(f"rangeserver_{name}", **labels)

    def hedges(self) -> dict[str, float]:
        found = {
            result: self.count("origin_hedges_total", result=result)
            for result in ("won", "lost", "suppressed")
        }
        return {result: count for result, count in found.items() if count}

    def everything_is_late(self, after: float = 0.0, *, credit: float = 0.0) -> None:
        """As if many requests had been made before."""
        self.upstream._hedging._late_after = after
        self.upstream._hedging._credit = credit


Opener = Callable[..., Any]


@pytest.fixture(params=["per-object", "per-request"])
def opened(request: pytest.FixtureRequest, fake: FakeS3) -> Opener:
    """Opens an upstream; fails on leaving if a connection or a place is left over."""

    @asynccontextmanager
    async def open_(**origin: Any) -> AsyncIterator[Course]:
        config = config_for(
            fake, origin={"signing": request.param, "hedge_percent": 2.0, **origin}
        ).origin
        metrics = Metrics()
        async with open_upstream(config, metrics.origin) as upstream:
            course = Course(upstream, metrics)
            yield course
            await eventually(lambda: acquired_connections(upstream.pool) == 0)
            assert upstream.slots.in_use == 0
            assert course.count("origin_connections", state="in_use") == 0
            assert course.count("origin_connections", state="waiting") == 0

    fake.put("a", BODY)
    return open_


# --- a second request


async def test_a_late_answer_is_overtaken_over_a_new_connection(
    fake: FakeS3, opened: Opener
) -> None:
    async with opened() as course:
        assert await course.get() == BODY
        course.everything_is_late(0.05, credit=1)
        fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
        connections: list[int] = []
        fake.on_request = lambda _: connections.append(fake.open_connections)
        assert await course.get() == BODY
        # The first went over the connection that was kept, the second over one of its own.
        assert connections == [1, 2]
        assert [seen.headers.get("connection") for seen in fake.requests] == [None, None, "close"]
        assert course.hedges() == {"won": 1}
        # Neither is kept: one was given up, the other is good for a single request.
        await eventually(lambda: fake.open_connections == 0)


async def test_the_first_may_still_win(fake: FakeS3, opened: Opener) -> None:
    async with opened() as course:
        course.everything_is_late(0.02, credit=1)
        fake.misbehave(faults.stall_after(BEFORE_HEADER))
        (asking,) = course.started()
        await eventually(lambda: fake.stalled == 2)
        first = fake.requests[0]
        assert "connection" not in first.headers
        assert course.upstream.slots.in_use == 2
        fake.release()
        assert await asking == BODY
        assert sum(course.hedges().values()) == 1
        assert course.count("origin_connections", state="in_use") == 0


async def test_an_answer_in_time_needs_no_second(fake: FakeS3, opened: Opener) -> None:
    async with opened() as course:
        course.everything_is_late(5.0, credit=20)
        for _ in range(5):
            assert await course.get() == BODY
        assert (len(fake.requests), course.hedges()) == (5, {})


async def test_second_requests_stay_within_their_share(fake: FakeS3, opened: Opener) -> None:
    """Though every answer is late."""
    async with opened(hedge_percent=10) as course:
        course.everything_is_late()
        for asked in range(1, 101):
            assert await course.get() == BODY
            assert len(fake.requests) <= asked * 1.1 + 1e-6
        hedges = course.hedges()
        assert hedges["suppressed"] >= 90
        assert hedges.get("won", 0) + hedges.get("lost", 0) <= 10


async def test_at_0_percent_there_are_none(fake: FakeS3, opened: Opener) -> None:
    async with opened(hedge_percent=0) as course:
        course.everything_is_late(credit=20)
        for _ in range(5):
            assert await course.get() == BODY
        assert (len(fake.requests), course.hedges()) == (5, {})


async def test_none_is_made_while_the_origin_throttles(fake: FakeS3, opened: Opener) -> None:
    async with opened() as course:
        fake.misbehave(faults.error(503, "SlowDown"), times=1)
        with pytest.raises(OriginThrottled):
            await course.get()
        course.everything_is_late(credit=20)
        for _ in range(5):
            assert await course.get() == BODY
        assert len(fake.requests) == 6
        assert set(course.hedges()) == {"suppressed"}


async def test_none_takes_the_last_place(fake: FakeS3, opened: Opener) -> None:
    async with opened(max_connections=1) as course:
        course.everything_is_late(0.01, credit=20)
        fake.misbehave(faults.stall_after(BEFORE_HEADER), times=1)
        (asking,) = course.started()
        await eventually(lambda: course.hedges() == {"suppressed": 1} and fake.stalled == 1)
        fake.release()
        assert await asking == BODY
        assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (faults.reset_after(BEFORE_HEADER), OriginUnreachable),
        (faults.error(500, "InternalError"), OriginServerError),
    ],
)
async def test_when_both_fail_the_error_is_that_of_the_first(
    fake: FakeS3, opened: Opener, first: faults.Fault, error: type[OriginError]
) -> None:
    async with opened() as course:
        course.everything_is_late(0.02, credit=1)
        late = faults.stall_after(BEFORE_HEADER)
        fake.misbehave(faults.all_of(first, late), times=1)
        fake.misbehave(faults.all_of(faults.error(503, "SlowDown"), late))
        (asking,) = course.started()
        await eventually(lambda: fake.stalled == 2)
        fake.release()
        with pytest.raises(error):
            await asking
        assert course.hedges() == {"lost": 1}


async def test_leaving_closes_both(fake: FakeS3, opened: Opener) -> None:
    async with opened() as course:
        course.everything_is_late(0.01, credit=1)
        fake.misbehave(faults.stall_after(BEFORE_HEADER))
        (asking,) = course.started()
        await eventually(lambda: fake.stalled == 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert course.upstream.slots.in_use == 0
        assert acquired_connections(course.upstream.pool) == 0
        await eventually(lambda: fake.open_connections == 0)
        assert course.hedges() == {"lost": 1}


async def test_leaving_at_any_moment_leaves_nothing(opened: Opener) -> None:
    """Whoever of the two is ahead, whatever has been handed over and not yet been taken."""
    async with opened(max_connections=8) as course:
        await course.get()
        for turns in range(80):
            course.everything_is_late(0.0, credit=1)
            (asking,) = course.started()
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await eventually(lambda: course.upstream.slots.in_use == 0)
        assert sum(course.hedges().values()) > 10
        assert await course.get() == BODY


async def test_a_deadline_in_a_race_leaves_nothing(fake: FakeS3, opened: Opener) -> None:
    async with opened() as course:
        course.everything_is_late(0.01, credit=20)
        fake.misbehave(faults.stall_after(BEFORE_HEADER))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await course.get(within=0.05)
        await eventually(lambda: fake.open_connections == 0)
        assert course.hedges() == {"lost": 3}


# --- bodies


async def test_nothing_is_read_ahead_of_whoever_takes_it(opened: Opener, fake: FakeS3) -> None:
    """A client that has stopped holds one part; the rest waits in the kernel and at the origin."""
    film = bytes(range(256)) * 20_000
    fake.put("film", film)
    async with opened() as course:
        with closing(
            await course.upstream.request(Ask("GET", "films", "film"), Attempt())
        ) as answer:
            received = bytearray()
            while len(film) - len(received) > MIB:
                part = await answer.read()
                assert 0 < len(part) <= 256 * 1024
                received += part
                response = answer.response
                assert response is not None
                assert response.connection is not None
                assert response.connection.transport is not None
                assert not response.connection.transport.is_reading()
                assert not response.content._size
            while part := await answer.read():
                received += part
            assert received == film
        assert idle_connections(course.upstream.pool) == 1


@pytest.mark.parametrize("over", [0, 1, 100_000])
async def test_whoever_takes_the_last_byte_leaves_a_connection_to_be_used(
    opened: Opener, fake: FakeS3, over: int
) -> None:
    """Its end has not to be read for."""
    film = bytes(MIB + over)
    fake.put("film", film)
    async with opened() as course:
        for _ in range(3):
            left = len(film)
            with closing(
                await course.upstream.request(Ask("GET", "films", "film"), Attempt())
            ) as answer:
                while left:
                    left -= len(await answer.read())
            assert idle_connections(course.upstream.pool) == 1
        assert fake.open_connections == 1


# --- places


async def test_a_request_holds_its_place_until_its_body_is_done(opened: Opener) -> None:
    async with opened(max_connections=1, pool_wait_seconds=0.05) as course:
        with closing(await course.upstream.request(GET, Attempt())) as answer:
            assert course.upstream.slots.in_use == 1
            await answer.read()
            with pytest.raises(OriginBusy):
                await course.get()
        assert course.upstream.slots.in_use == 0
        assert await course.get() == BODY


# --- the circuit


async def test_an_origin_that_is_gone_is_left_alone(fake: FakeS3, opened: Opener) -> None:
    async with opened() as course:
        clock = course.upstream.circuit._clock = Clock()
        await fake.refuse()
        for _ in range(FAILURES_IN_A_ROW):
            assert course.count("origin_circuit_open") == 0
            with pytest.raises(OriginUnreachable) as refused:
                await course.get()
            assert not isinstance(refused.value, OriginSuspended)
        assert course.count("origin_circuit_open") == 1
        await fake.listen()
        for _ in range(10):
            with pytest.raises(OriginSuspended):
                await course.get()
        assert fake.requests == []
        clock.now += MIN_PAUSE_SECONDS
        assert await course.get() == BODY
        assert course.count("origin_circuit_open") == 0
        assert await course.get() == BODY


async def test_a_silent_origin_is_left_alone(fake: FakeS3, opened: Opener) -> None:
    """Also if what ends a request is the deadline of its answer."""
    async with opened(idle_seconds=10) as course:
        fake.misbehave(faults.stall_after(BEFORE_HEADER))
        for number in range(FAILURES_IN_A_ROW):
            with pytest.raises(TimeoutError):
                await course.get(f"film {number}", within=0.05)
        with pytest.raises(OriginSuspended):
            await course.get()


async def test_clients_that_leave_open_nothing(fake: FakeS3, opened: Opener) -> None:
    async with opened() as course:
        fake.misbehave(faults.stall_after(BEFORE_HEADER))
        for number in range(2 * FAILURES_IN_A_ROW):
            asking = asyncio.create_task(course.get(f"film {number}"))
            await eventually(lambda: fake.stalled == 1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await eventually(lambda: fake.stalled == 0)
        fake.behave()
        assert await course.get() == BODY


async def test_one_silent_object_opens_nothing(fake: FakeS3, opened: Opener) -> None:
    async with opened(idle_seconds=0.05) as course:
        fake.misbehave(faults.stall_after(BEFORE_HEADER))
        for _ in range(2 * FAILURES_IN_A_ROW):
            with pytest.raises(OriginTimeout):
                await course.get()
        fake.behave()
        assert await course.get() == BODY


@pytest.mark.parametrize(
    "fault", [faults.error(404, "NoSuchKey"), faults.error(500, "InternalError")]
)
async def test_an_answer_of_any_kind_is_one(
    fake: FakeS3, opened: Opener, fault: faults.Fault
) -> None:
    async with opened() as course:
        for _ in range(3 * FAILURES_IN_A_ROW):
            fake.misbehave(faults.reset_after(BEFORE_HEADER), times=FAILURES_IN_A_ROW - 1)
            fake.misbehave(fault, times=1)
            for _ in range(FAILURES_IN_A_ROW):
                with pytest.raises(
                    (OriginUnreachable, ObjectNotFound, OriginServerError)
                ) as raised:
                    await course.get()
                assert not isinstance(raised.value, OriginSuspended)


# --- credentials


@pytest.fixture
async def container(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeAws]:
    """Credentials come from a container's endpoint, others each time."""
    async with FakeAws() as aws:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws.url}/container")
        yield aws


def signers(fake: FakeS3) -> list[str]:
    found = [
        re.search(r"Credential=(\w+)/", each.headers["authorization"]) for each in fake.requests
    ]
    return [match[1] for match in found if match is not None]


async def test_an_expired_token_is_renewed_once_and_the_request_repeated(
    fake: FakeS3, container: FakeAws, opened: Opener
) -> None:
    async with opened() as course:
        assert await course.get() == BODY
        fake.misbehave(faults.error(400, "ExpiredToken"), times=1)
        assert await course.get() == BODY
    assert signers(fake) == ["AKECS1", "AKECS1", "AKECS2"]
    assert container.container.hits == 2


async def test_many_at_once_share_the_renewal(
    fake: FakeS3, container: FakeAws, opened: Opener
) -> None:
    async with opened() as course:
        fake.misbehave(faults.all_of(faults.error(400, "ExpiredToken")), times=8)
        assert await asyncio.gather(*course.started(8)) == [BODY] * 8
    assert container.container.hits == 2
    assert signers(fake).count("AKECS2") == 8


async def test_a_renewal_that_does_not_help_is_not_repeated(
    fake: FakeS3, container: FakeAws, opened: Opener
) -> None:
    async with opened() as course:
        fake.misbehave(faults.error(400, "ExpiredToken"))
        for _ in range(5):
            with pytest.raises(CredentialsExpired):
                await course.get()
        assert container.container.hits == 2
        # Twice for the one that renewed; once for each after it.
        assert len(fake.requests) == 6
        fake.behave()
        assert await course.get() == BODY


async def test_no_renewal_means_no_repetition(
    fake: FakeS3, container: FakeAws, opened: Opener
) -> None:
    async with opened() as course:
        container.container.status = 500
        fake.misbehave(faults.error(400, "ExpiredToken"))
        with pytest.raises(CredentialsExpired):
            await course.get()
        assert len(fake.requests) == 1


@pytest.mark.parametrize("mode", ["per-object", "per-request"])
async def test_open_bodies_outlive_their_token(container: FakeAws, mode: str) -> None:
    """FAULTS D3: one renewal, then refusals; what had begun ends as if nothing had happened."""
    async with ExpiringS3() as fake:
        fake.put("a", BODY)
        fake.misbehave(faults.stall_after(1000), times=1)
        metrics = Metrics()
        config = config_for(fake, origin={"signing": mode}).origin
        async with open_upstream(config, metrics.origin) as upstream:
            course = Course(upstream, metrics)
            body = bytearray()
            with closing(await upstream.request(GET, Attempt())) as answer:
                body += await answer.read()
                fake.expired = Everybody()
                for _ in range(3):
                    with pytest.raises(CredentialsExpired):
                        await course.get()
                fake.release()
                while part := await answer.read():
                    body += part
            assert body == BODY
            fake.expired = set()
            assert await course.get() == BODY
        assert container.container.hits == 2
