"""A fill as its readers see it; :mod:`tests.cache.test_transfer` has the work behind it."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from rangeserver.cache import fill as module
from rangeserver.cache.fill import Fill
from rangeserver.errors import OriginBodyError
from rangeserver.origin.base import ReadReport
from tests.support import eventually

FAILURE = OriginBodyError("broken")


def new_fill(report: ReadReport | None = None, shortened: list[int] | None = None) -> Fill:
    shorten = (shortened if shortened is not None else []).append
    return Fill((2, 6), 2000, report or ReadReport(), shorten=shorten)


async def test_a_reader_waits_until_bytes_are_written_past_its_position() -> None:
    fill = new_fill()
    waiting = asyncio.ensure_future(fill.wait_past(2000))
    await asyncio.sleep(0)
    fill.advance(10)
    await waiting
    await fill.wait_past(2009)  # does not wait
    assert fill.filled_to == 2010


async def test_its_end_wakes_all_readers_and_leaves_no_references() -> None:
    class Owner:
        def shorten(self, block: int) -> None:
            """Not called."""

    owner = Owner()
    fill = Fill((0, 1), 0, ReadReport(), shorten=owner.shorten)
    fill.attach(fill)
    waiting = [asyncio.ensure_future(fill.wait_past(0)) for _ in range(3)]
    await asyncio.sleep(0)
    fill.end()
    await asyncio.gather(*waiting)
    assert (fill.over, fill.broken, fill.task) == (True, False, None)
    left = weakref.ref(owner), weakref.ref(fill)
    gc.disable()
    try:
        del owner, fill, waiting
        assert [each() for each in left] == [None, None]
    finally:
        gc.enable()


async def test_the_first_reader_that_asks_begins_another_attempt() -> None:
    fill = new_fill()
    waiting = asyncio.ensure_future(fill.wait_for_retry(FAILURE))
    await fill.wait_past(2000)
    assert (fill.broken, fill.failed, fill.error) == (True, 1, FAILURE)
    fill.retry()
    assert not fill.broken
    await waiting


async def test_nobody_asks_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_WAIT_SECONDS", 0.01)
    with pytest.raises(OriginBodyError):
        await new_fill().wait_for_retry(FAILURE)


async def test_the_last_reader_that_leaves_cancels_the_transfer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.0)
    fill = new_fill()
    task = fill.task = asyncio.create_task(asyncio.sleep(60))
    fill.attach("first")
    fill.attach("second")
    fill.detach("first")
    assert not fill.abandoned
    fill.detach("second")
    assert fill.abandoned
    await eventually(task.cancelled)


async def test_a_reader_that_comes_in_time_saves_it() -> None:
    fill = new_fill()
    fill.detach("nobody")
    fill.attach("another")
    assert (fill.abandoned, fill._timer) == (False, None)


def test_a_reader_shortens_it() -> None:
    shortened: list[int] = []
    fill = new_fill(shortened=shortened)
    assert fill.truncate(4) == 6
    assert shortened == [4]
    fill.narrow(4)
    assert fill.stop == 4


def test_it_knows_for_which_response_it_was_begun() -> None:
    response = ReadReport(begun=True)
    fill, ahead = new_fill(response.shared()), new_fill(response.shared(ahead=True))
    assert (fill.is_for(response), ahead.is_for(response)) == (True, False)
    assert not fill.is_for(ReadReport())
    ahead.needed_by(response)
    assert ahead.is_for(response)
