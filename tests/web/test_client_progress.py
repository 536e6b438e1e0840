"""The watch over slow clients, by a clock that goes on when a test says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from rangeserver.web.client_progress import ClientDeadlines, ProgressWatch
from rangeserver.web.exchange import Exchange, Outcome
from tests.stepped_loop import STEP_SECONDS, passed

pytestmark = pytest.mark.loops("stepped")

LOOKS_PER_DEADLINE = 4
IDLE = 4.0
GRACE = 8.0
RATE = 100
INTERVAL = IDLE / LOOKS_PER_DEADLINE
DEADLINES = ClientDeadlines(
    write_idle_seconds=IDLE, min_bytes_per_second=RATE, min_rate_grace_seconds=GRACE
)


@dataclass(eq=False)
class Connection:
    """What a response is written to; counts how often it was looked at."""

    kept: int = 0
    looks: int = 0
    aborted: bool = False

    def get_write_buffer_size(self) -> int:
        self.looks += 1
        return self.kept

    def get_extra_info(self, name: str) -> None:
        assert name == "socket"

    def abort(self) -> None:
        self.aborted = True


@dataclass(eq=False)
class Response:
    """A response being sent, and what its client takes of it."""

    connection: Connection = field(default_factory=Connection)
    exchange: Exchange = field(init=False)

    def __post_init__(self) -> None:
        transport = cast("Any", self.connection)
        self.exchange = Exchange("id", "192.0.2.1", "GET", transport=transport)

    def write(self, count: int) -> None:
        self.exchange.bytes_sent += count
        self.connection.kept += count

    def take(self, count: int | None = None) -> None:
        """The kernel takes over this many bytes, or all."""
        self.connection.kept -= self.connection.kept if count is None else count

    @property
    def cut(self) -> bool:
        assert self.connection.aborted == (self.exchange.outcome is not None)
        return self.connection.aborted


@pytest.fixture
def watch() -> ProgressWatch:
    return ProgressWatch(DEADLINES)


def begun(watch: ProgressWatch, written: int = 0) -> Response:
    """A response that has just begun, with so much written that nobody has taken."""
    response = Response()
    watch.begin(response.exchange)
    response.write(written)
    return response


# --- clients that take nothing


async def test_a_client_that_takes_nothing_is_cut_off_after_the_deadline(
    watch: ProgressWatch,
) -> None:
    response = begun(watch, 1000)
    await passed(INTERVAL + IDLE - STEP_SECONDS)
    assert not response.cut
    await passed(STEP_SECONDS)
    assert response.cut
    assert response.exchange.outcome is Outcome.CLIENT_TOO_SLOW


@pytest.mark.parametrize("late", [STEP_SECONDS, INTERVAL / 2, INTERVAL - STEP_SECONDS])
async def test_the_time_before_it_began_is_not_its_own(watch: ProgressWatch, late: float) -> None:
    """It is cut off no earlier than the deadline, and at most a look and a half later."""
    begun(watch)
    await passed(late)
    response = begun(watch, 1000)
    await passed(IDLE)
    assert not response.cut
    await passed(INTERVAL)
    assert response.cut


async def test_one_byte_is_progress(watch: ProgressWatch) -> None:
    response = begun(watch, 1_000_000)
    response.take(500_000)  # at a good rate, so that this deadline alone is tried
    await passed(INTERVAL)
    for _ in range(3):
        await passed(IDLE - INTERVAL)
        response.take(1)
        await passed(INTERVAL)
        assert not response.cut
    await passed(IDLE - INTERVAL)
    assert not response.cut
    await passed(INTERVAL)
    assert response.cut


async def test_what_is_written_meanwhile_is_no_progress(watch: ProgressWatch) -> None:
    response = begun(watch, 1000)
    await passed(INTERVAL)
    for _ in range(LOOKS_PER_DEADLINE):
        assert not response.cut
        response.write(1000)
        await passed(INTERVAL)
    assert response.cut


async def test_what_is_not_of_the_body_is_no_progress(watch: ProgressWatch) -> None:
    """Heads of parts and of TLS records come and go in the buffer, and nobody has counted them."""
    response = begun(watch, 1000)
    await passed(INTERVAL)
    for grown in (500, -500) * (LOOKS_PER_DEADLINE // 2):
        assert not response.cut
        response.connection.kept += grown
        await passed(INTERVAL)
    assert response.cut


async def test_what_waits_outside_of_the_transport_is_not_taken_either(
    watch: ProgressWatch,
) -> None:
    """As with sendfile, which the transport knows nothing of."""
    response = begun(watch)
    response.exchange.bytes_sent = response.exchange.bytes_waiting = 1000
    await passed(INTERVAL + IDLE)
    assert response.cut


async def test_no_transport_keeps_nothing(watch: ProgressWatch) -> None:
    response = begun(watch, 1000)
    response.exchange.transport = None
    await passed(10 * GRACE)
    assert response.exchange.outcome is None
    response.exchange.bytes_waiting = 1000
    await passed(INTERVAL + IDLE)
    assert response.exchange.outcome is Outcome.CLIENT_TOO_SLOW


# --- who is waited for


async def test_waiting_for_the_origin_is_no_fault_of_the_client(watch: ProgressWatch) -> None:
    response = begun(watch, 1)
    response.take()
    await passed(10 * GRACE)
    assert not response.cut


async def test_a_pause_of_the_origin_ends_the_idle_time(watch: ProgressWatch) -> None:
    response = begun(watch, 1_000_000)
    response.take(999_000)
    await passed(INTERVAL)
    for _ in range(3):
        await passed(IDLE - INTERVAL)
        response.take()
        await passed(INTERVAL)
        response.write(1000)
    await passed(IDLE - INTERVAL)
    assert not response.cut
    await passed(INTERVAL)
    assert response.cut


# --- clients that take little


async def test_too_little_on_average_is_borne_for_the_grace_time(watch: ProgressWatch) -> None:
    response = begun(watch, 1_000_000)
    await passed(INTERVAL)
    for _ in range(int(GRACE / INTERVAL)):
        assert not response.cut
        response.take(int(RATE * INTERVAL) - 1)
        await passed(INTERVAL)
    assert response.cut
    assert response.exchange.outcome is Outcome.CLIENT_TOO_SLOW


async def test_just_enough_is_enough(watch: ProgressWatch) -> None:
    response = begun(watch, 1_000_000)
    await passed(INTERVAL)
    for _ in range(int(4 * GRACE / INTERVAL)):
        response.take(int(RATE * INTERVAL))
        await passed(INTERVAL)
    assert not response.cut


async def test_only_the_time_it_kept_us_waiting_counts(watch: ProgressWatch) -> None:
    """Half of the time there is nothing for it, so it has twice the grace, and half the speed."""
    response = begun(watch, 1)
    await passed(INTERVAL)
    for _ in range(int(GRACE / INTERVAL) - 1):
        await passed(INTERVAL)
        response.take()
        await passed(INTERVAL)
        response.write(1)
    assert not response.cut
    await passed(INTERVAL)
    assert response.cut


async def test_what_it_took_quickly_is_to_its_credit(watch: ProgressWatch) -> None:
    response = begun(watch, 1_000_000)
    response.take(int(RATE * 3 * GRACE))
    await passed(INTERVAL)
    for _ in range(int(3 * GRACE / INTERVAL)):
        response.take(1)
        await passed(INTERVAL)
        assert not response.cut
    response.take(1)
    await passed(INTERVAL)
    assert response.cut


async def test_no_least_rate() -> None:
    response = begun(ProgressWatch(ClientDeadlines(IDLE, 0, GRACE)), 1_000_000)
    for _ in range(int(10 * GRACE / INTERVAL)):
        await passed(INTERVAL)
        response.take(1)
    assert not response.cut


# --- many, and none


@pytest.mark.parametrize(("idle", "grace"), [(IDLE, GRACE), (GRACE, IDLE)])
async def test_four_looks_within_the_shorter_deadline(idle: float, grace: float) -> None:
    watch = ProgressWatch(ClientDeadlines(idle, RATE, grace))
    response = begun(watch)
    await passed(min(idle, grace))
    assert response.connection.looks == LOOKS_PER_DEADLINE


async def test_one_timer_for_all(watch: ProgressWatch) -> None:
    responses = [begun(watch) for _ in range(3)]
    await passed(INTERVAL / 2)
    responses += [begun(watch) for _ in range(3)]
    await passed(INTERVAL / 2)
    assert [response.connection.looks for response in responses] == [1] * 6


async def test_a_slow_one_takes_no_other_along(watch: ProgressWatch) -> None:
    slow, quick = begun(watch, 1000), begun(watch, 1_000_000)
    for _ in range(int(GRACE / INTERVAL)):
        await passed(INTERVAL)
        quick.take(1000)
    assert (slow.cut, quick.cut) == (True, False)
    looks = slow.connection.looks
    await passed(INTERVAL)
    assert (slow.connection.looks, quick.connection.looks) == (looks, GRACE / INTERVAL + 1)


async def test_nothing_is_looked_at_once_it_has_ended(watch: ProgressWatch) -> None:
    response, other = begun(watch, 1000), begun(watch)
    await passed(INTERVAL)
    watch.end(response.exchange)
    watch.end(response.exchange)  # which one that was cut off does as well
    await passed(2 * IDLE)
    assert (response.connection.looks, response.cut) == (1, False)
    assert other.connection.looks > 1


async def test_no_timer_without_responses(watch: ProgressWatch) -> None:
    """And a new one for those that come later."""
    response = begun(watch)
    watch.end(response.exchange)
    assert watch._timer is not None
    await passed(INTERVAL)
    assert watch._timer is None
    late = begun(watch, 1000)
    await passed(INTERVAL + IDLE)
    assert late.cut
    assert watch._timer is None


async def test_closed_it_looks_no_more(watch: ProgressWatch) -> None:
    watch.close()  # without anything to look at
    response = begun(watch, 1000)
    await passed(INTERVAL)
    watch.close()
    await passed(2 * IDLE)
    assert (response.connection.looks, response.cut) == (1, False)


async def test_the_first_reason_stands(watch: ProgressWatch) -> None:
    response = begun(watch, 1000)
    response.exchange.outcome = Outcome.DRAINED
    await passed(INTERVAL + IDLE)
    assert response.connection.aborted
    assert response.exchange.outcome is Outcome.DRAINED
