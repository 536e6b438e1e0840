"""Where an exchange ends, and how it is said to have ended."""

from __future__ import annotations

import asyncio

import pytest

from rangeserver.errors import OriginBodyError, OriginTimeout, StreamAborted
from rangeserver.web.client_progress import ClientDeadlines
from rangeserver.web.exchange import Exchange, Outcome, outcome_of
from rangeserver.web.exchanges import Exchanges


def exchange() -> Exchange:
    return Exchange("id-of-request", "127.0.0.1", "GET", "film.mp4")


@pytest.fixture
def ended() -> list[Exchange]:
    return []


@pytest.fixture
async def exchanges(ended: list[Exchange]) -> Exchanges:
    made = Exchanges(ClientDeadlines(60.0, 0, 60.0))
    made.observers = [ended.append]
    return made


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.COMPLETE),
        (OriginBodyError(), Outcome.ORIGIN_FAILED),
        (OriginTimeout(), Outcome.ORIGIN_FAILED),
        (ConnectionResetError(), Outcome.CLIENT_GONE),
        (asyncio.CancelledError(), Outcome.CLIENT_GONE),
        (StreamAborted("too short"), Outcome.FAILED),
        (ZeroDivisionError(), Outcome.FAILED),
    ],
)
def test_each_error_has_one_outcome(error: BaseException | None, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


async def test_an_exchange_ends_once(exchanges: Exchanges, ended: list[Exchange]) -> None:
    one = exchange()
    exchanges.add(one)
    assert list(exchanges) == [one]
    exchanges.finish(one, Outcome.COMPLETE)
    finished = one.finished
    exchanges.finish(one, Outcome.FAILED)
    assert (ended, len(exchanges)) == ([one], 0)
    assert (one.outcome, one.finished, one.first_byte) == (Outcome.COMPLETE, finished, finished)
    exchanges.close()


async def test_the_first_outcome_stands(exchanges: Exchanges, ended: list[Exchange]) -> None:
    one = exchange()
    one.abort(Outcome.CLIENT_TOO_SLOW)
    one.bytes_sent, one.bytes_waiting = 100, 30
    exchanges.finish(one, Outcome.COMPLETE)
    assert (one.outcome, one.bytes_sent, one.first_byte) == (Outcome.CLIENT_TOO_SLOW, 70, None)
    assert ended == [one]


async def test_one_waits_until_none_is_running(exchanges: Exchanges) -> None:
    one, other = exchange(), exchange()
    exchanges.add(one)
    exchanges.add(other)
    waiting = asyncio.create_task(exchanges.wait_for_none())
    exchanges.finish(one, Outcome.COMPLETE)
    await asyncio.sleep(0)
    assert not waiting.done()
    exchanges.finish(other, Outcome.COMPLETE)
    await waiting
    exchanges.close()
