"""The checks themselves find what they are for."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections import deque
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from rangeserver.web.exchange import Exchange, Outcome
from rangeserver.web.exchanges import Exchanges
from rangeserver.web.range_response import RangeResponse
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.faults.leaks import PER_ROUND
from tests.faults.logs import SECRET_KEY
from tests.faults.memory import memory_stays
from tests.faults.repeating import Once, served

FILM = bytes(range(256)) * 16


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.invariants.SETTLED_SECONDS", 0.2)


async def test_wrong_bytes_are_found(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        watch.again(served)
        fake.misbehave(faults.corrupted(7), key="film")
        with pytest.raises(AssertionError):
            await watch.get("/film")


async def test_a_task_that_is_left_is_found(fake: FakeS3) -> None:
    with pytest.raises(AssertionError, match=r"\{'tasks': \d+\} is left"):
        async with watched(fake):
            left = asyncio.create_task(asyncio.sleep(60))
    left.cancel()


async def test_a_descriptor_that_is_left_is_found(fake: FakeS3) -> None:
    with pytest.raises(AssertionError, match="'descriptors'"):
        async with watched(fake):
            left = os.open(os.devnull, os.O_RDONLY)
    os.close(left)


async def test_what_the_cache_holds_is_found(fake: FakeS3) -> None:
    with pytest.raises(AssertionError, match="'budget_taken'"):
        async with watched(fake, cache={}) as watch:
            assert watch.cache.budget.try_take("", 1)
    with pytest.raises(AssertionError, match="'nameless_files'"):
        async with watched(fake, cache={}) as watch:
            (watch.cache.directory.path / "new" / "left").touch()


async def test_an_uncounted_response_is_found(fake: FakeS3) -> None:
    async def fault() -> None:
        async with watched(fake) as watch:
            await watch.probe()
            watch.asked += 1

    with pytest.raises(AssertionError, match="2 responses counted of 3"):
        await fault()


@pytest.mark.parametrize("text", [f"key {SECRET_KEY}", "Traceback (most recent call last):"])
async def test_what_must_not_be_logged_is_found(fake: FakeS3, text: str) -> None:
    async def fault() -> None:
        async with watched(fake) as watch:
            watch.again(served)
            logging.getLogger("rangeserver.anywhere").warning(text)

    with pytest.raises(AssertionError, match=r"not-a-secret|Traceback"):
        await fault()


async def test_an_error_nobody_retrieved_is_found(fake: FakeS3) -> None:
    async def fails() -> None:
        raise ValueError

    async def fault() -> None:
        async with watched(fake) as watch:
            watch.again(served)
            task = asyncio.create_task(fails())
            await asyncio.sleep(0)
            del task

    with pytest.raises(AssertionError, match="never retrieved"):
        await fault()


async def test_memory_that_grows_is_found() -> None:
    kept: list[bytes] = []

    async def leak() -> None:
        kept.append(bytes(range(256)) * 4096)

    with pytest.raises(AssertionError, match="resident memory grew"):
        await memory_stays(leak, times=200)


async def test_a_case_that_is_not_repeated_is_found(fake: FakeS3) -> None:
    with pytest.raises(AssertionError, match="does not say how its fault is repeated"):
        async with watched(fake):
            pass


KEPT: list[object] = []
"""Is there before the tests, and so is frozen."""

TURNS = itertools.count()


@pytest.fixture(params=["frozen", "new"])
def kept(request: pytest.FixtureRequest) -> Iterator[list[object]]:
    """Where a server might forget things."""
    KEPT.clear()
    yield KEPT if request.param == "frozen" else []
    KEPT.clear()


async def leaking(fake: FakeS3, once: Once[Watch] = served) -> None:
    with patch("tests.faults.invariants.ALL", new=True):
        async with watched(fake) as watch:
            watch.again(once)


async def test_an_exchange_that_is_kept_is_found(
    fake: FakeS3, kept: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Exchanges.finish

    def finish_and_keep(exchanges: Exchanges, exchange: Exchange, outcome: Outcome) -> None:
        finish(exchanges, exchange, outcome)
        kept.append(exchange)

    monkeypatch.setattr(Exchanges, "finish", finish_and_keep)
    with pytest.raises(AssertionError, match=r"\+25 rangeserver\.web\.exchange\.Exchange"):
        await leaking(fake)


async def test_a_response_that_is_kept_is_found(
    fake: FakeS3, kept: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = RangeResponse.__init__

    def begin_and_keep(response: RangeResponse, *of: Any, **how: Any) -> None:
        kept.append(response)
        begin(response, *of, **how)

    monkeypatch.setattr(RangeResponse, "__init__", begin_and_keep)
    with pytest.raises(
        AssertionError, match=r"\+25 rangeserver\.web\.range_response\.RangeResponse"
    ):
        await leaking(fake)


async def test_a_word_that_is_kept_is_found(fake: FakeS3, kept: list[object]) -> None:
    async def once(watch: Watch, key: str) -> None:
        kept.append((await watch.get(f"/{key}", goes_on=False)).request_id)

    with pytest.raises(AssertionError, match=r"\+24 (builtins\.str|entries)"):
        await leaking(fake, once)


async def test_every_other_body_that_is_kept_is_found(fake: FakeS3, kept: list[object]) -> None:
    async def once(watch: Watch, key: str) -> None:
        received = await watch.get(f"/{key}", goes_on=False)
        if next(TURNS) % 2:
            kept.append(received.body)

    with pytest.raises(AssertionError, match=r"\+12 (builtins\.bytes|entries)"):
        await leaking(fake, once)


async def test_what_is_kept_for_the_last_ones_only_is_no_leak(fake: FakeS3) -> None:
    last: deque[object] = deque(maxlen=3 * PER_ROUND)

    async def once(watch: Watch, key: str) -> None:
        last.append(await watch.get(f"/{key}", goes_on=False))

    await leaking(fake, once)
    assert len(last) == 3 * PER_ROUND
