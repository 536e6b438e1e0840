"""The checks themselves find what they are for."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest

from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import watched
from tests.faults.logs import SECRET_KEY
from tests.faults.memory import memory_stays

FILM = bytes(range(256)) * 16


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.invariants.SETTLED_SECONDS", 0.2)


async def test_wrong_bytes_are_found(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
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
            assert watch.cache.budget.try_take(1)
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
    with pytest.raises(AssertionError, match=r"not-a-secret|Traceback"):
        async with watched(fake):
            logging.getLogger("rangeserver.anywhere").warning(text)


async def test_an_error_nobody_retrieved_is_found(fake: FakeS3) -> None:
    async def fails() -> None:
        raise ValueError

    async def fault() -> None:
        async with watched(fake):
            task = asyncio.create_task(fails())
            await asyncio.sleep(0)
            del task

    with pytest.raises(AssertionError, match="never retrieved"):
        await fault()


async def test_memory_that_grows_is_found() -> None:
    kept: list[bytes] = []

    async def leak() -> None:
        kept.append(bytes(range(256)) * 1024)

    with pytest.raises(AssertionError, match="resident memory grew"):
        await memory_stays(leak, times=200)
