"""One poll for all who wait for other processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from rangeserver.cache.disk import Disk
from rangeserver.cache.polling import Poller, pause_after
from tests.support import eventually


@pytest.fixture
async def poller() -> AsyncIterator[Poller]:
    disk = Disk()
    made = Poller(disk)
    yield made
    assert not made._waiting
    assert made._task is None
    disk.shut_down()


async def test_it_ends_when_the_condition_holds(poller: Poller) -> None:
    answers = iter([False, False, True])
    assert await poller.until(lambda: next(answers), within=10)
    assert list(answers) == []


async def test_it_ends_when_the_time_is_over(poller: Poller) -> None:
    assert not await poller.until(lambda: False, within=0.05)


async def test_conditions_are_evaluated_off_the_loop(poller: Poller) -> None:
    threads: list[threading.Thread] = []

    def condition() -> bool:
        threads.append(threading.current_thread())
        return len(threads) == 2

    assert await poller.until(condition, within=10)
    assert threading.main_thread() not in threads


async def test_an_error_is_that_of_its_condition_alone(poller: Poller) -> None:
    over = threading.Event()

    def fails() -> bool:
        raise OSError(5, "the disk fails")

    good = asyncio.create_task(poller.until(over.is_set, within=10))
    with pytest.raises(OSError, match="the disk fails"):
        await poller.until(fails, within=10)
    assert not good.done()
    over.set()
    assert await good


async def test_all_are_told_that_the_disk_does_not_answer(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller._disk, "is_stuck", lambda: True)
    results = await asyncio.gather(
        *(poller.until(lambda: False, within=10) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, OSError) for result in results)


async def test_however_many_wait_one_call_polls_for_them(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[int] = []
    held = threading.Event()
    run = poller._disk.run

    async def counted(call: Callable[..., object], conditions: list[object]) -> object:
        polls.append(len(conditions))
        return await run(call, conditions)

    monkeypatch.setattr(poller._disk, "run", counted)
    waiters = [asyncio.create_task(poller.until(held.is_set, within=10)) for _ in range(100)]
    await eventually(lambda: len(polls) > 2)
    held.set()
    assert all(await asyncio.gather(*waiters))
    assert set(polls) == {100}


def test_polls_take_a_fixed_share_of_the_time() -> None:
    assert pause_after(0.0) == pause_after(0.0001) == 0.01
    assert pause_after(0.004) == 0.2
    assert pause_after(60.0) == 1.0
