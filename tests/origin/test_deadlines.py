"""Deadlines of requests to the origin, on a loop whose clock moves when told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from rangeserver.origin.deadlines import Deadline, Deadlines
from tests.stepped_loop import passed

pytestmark = pytest.mark.loops("stepped")

T = TypeVar("T")


async def waiting(
    *deadlines: Deadlines, told: list[bool] | None = None, within: Deadline | None = None
) -> None:
    """Wait for ever inside of deadlines, the first outermost, and tell in the innermost whether one
    of them had passed when it was cancelled.
    """
    if not deadlines:
        try:
            await asyncio.Event().wait()
        finally:
            if told is not None:
                assert within is not None
                told.append(within.expired())
    else:
        with Deadline(deadlines[0], within) as deadline:
            await waiting(*deadlines[1:], told=told, within=deadline)


async def started(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that has come to where it waits."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


async def begun(*deadlines: Deadlines, told: list[bool] | None = None) -> asyncio.Task[None]:
    """A task that waits inside of deadlines."""
    return await started(waiting(*deadlines, told=told))


async def ended(task: asyncio.Task[Any]) -> BaseException | None:
    """What a task ended in; it needs no more time for that."""
    await passed(0.25)
    assert task.done()
    return asyncio.CancelledError() if task.cancelled() else task.exception()


# --- one


async def test_what_takes_too_long_is_cancelled_and_fails() -> None:
    told: list[bool] = []
    task = await begun(Deadlines(1.0), told=told)
    await passed(0.75)
    assert not task.done()
    assert isinstance(await ended(task), TimeoutError)
    assert told == [True]
    assert task.cancelling() == 0


async def test_what_is_done_in_time_is_left_alone() -> None:
    deadlines = Deadlines(1.0)
    with Deadline(deadlines) as deadline:
        await passed(0.75)
    await passed(2.0)
    assert not deadline.expired()


async def test_an_error_of_the_work_itself_is_not_replaced() -> None:
    """Not even of work that fails because it is cancelled."""

    async def failing() -> None:
        with Deadline(Deadlines(1.0)):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                msg = "its own"
                raise LookupError(msg) from None

    task = await started(failing())
    await passed(0.75)
    assert isinstance(await ended(task), LookupError)
    assert task.cancelling() == 0


async def test_work_that_is_done_though_it_was_late_is_done() -> None:
    """As with ``asyncio.timeout``: its answer is there, and the task goes on."""
    with Deadline(Deadlines(1.0)) as deadline, contextlib.suppress(asyncio.CancelledError):
        await passed(1.0)
    assert deadline.expired()
    await asyncio.sleep(0)


async def test_who_leaves_is_not_late() -> None:
    told: list[bool] = []
    task = await begun(Deadlines(1.0), told=told)
    task.cancel()
    assert isinstance(await ended(task), asyncio.CancelledError)
    assert told == [False]


@pytest.mark.parametrize("first", ["deadline", "client"])
async def test_who_leaves_at_the_moment_at_which_it_passes_has_left(first: str) -> None:
    """In the same turn of the loop, so that the task hears of both at once."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None]] = []
    if first == "client":
        loop.call_at(1.0, lambda: tasks[0].cancel())
    task = await begun(Deadlines(1.0))
    tasks.append(task)
    if first == "deadline":
        loop.call_at(1.0, task.cancel)
    await passed(0.75)
    assert not task.done()
    assert isinstance(await ended(task), asyncio.CancelledError)
    assert task.cancelling() == 1


async def test_a_task_that_was_cancelled_before_is_late_as_any() -> None:
    """It has to do with nobody that it was, and did not end for it."""

    async def stubborn() -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await waiting(Deadlines(1.0))
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = await started(stubborn())
    task.cancel()
    await asyncio.sleep(0)
    await passed(0.75)
    assert await ended(task) is None
    assert task.result() == 1


# --- lifted


async def test_a_deadline_that_was_lifted_ends_nothing() -> None:
    with Deadline(Deadlines(1.0)) as deadline:
        deadline.lift()
        await passed(2.0)
        assert not deadline.expired()


async def test_lifted_too_late_it_has_passed_all_the_same() -> None:
    deadlines = Deadlines(1.0)
    deadline = Deadline(deadlines)

    async def late() -> None:
        with deadline:
            try:
                await asyncio.Event().wait()
            finally:
                deadline.lift()

    task = await started(late())
    await passed(0.75)
    assert isinstance(await ended(task), TimeoutError)
    assert deadline.expired()


async def test_one_that_was_lifted_after_it_was_left_does_nothing() -> None:
    with Deadline(Deadlines(1.0)) as deadline:
        pass
    deadline.lift()
    assert not deadline.expired()


# --- one in another


@pytest.mark.parametrize(("outer", "inner"), [(1.0, 10.0), (10.0, 1.0), (1.0, 1.0)])
async def test_lateness_by_either_is_known_inside_of_both(outer: float, inner: float) -> None:
    told: list[bool] = []
    task = await begun(Deadlines(outer), Deadlines(inner), told=told)
    await passed(0.75)
    assert isinstance(await ended(task), TimeoutError)
    assert told == [True]
    assert task.cancelling() == 0


@pytest.mark.parametrize("one_timer", [True, False])
async def test_of_two_that_pass_together_the_outer_one_fails(*, one_timer: bool) -> None:
    """What is in between is left, as if there was no inner one."""
    outer = Deadlines(1.0)
    inner = outer if one_timer else Deadlines(1.0)
    seen: list[type[BaseException]] = []

    async def both() -> None:
        with Deadline(outer) as around:
            try:
                await waiting(inner, within=around)
            except BaseException as error:
                seen.append(type(error))
                raise

    task = await started(both())
    await passed(0.75)
    assert isinstance(await ended(task), TimeoutError)
    assert seen == [asyncio.CancelledError]


async def test_after_the_inner_one_there_is_time_until_the_outer_one() -> None:
    seen: list[bool] = []

    async def both() -> None:
        with Deadline(Deadlines(2.0)) as outer:
            with pytest.raises(TimeoutError):
                await waiting(Deadlines(1.0), within=outer)
            seen.append(outer.expired())
            await asyncio.Event().wait()

    task = await started(both())
    await passed(1.75)
    assert seen == [False]
    assert isinstance(await ended(task), TimeoutError)


async def test_inside_of_asyncios_own_and_around_it() -> None:
    async def between() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.Event().wait()
        async with asyncio.timeout(10.0):
            await asyncio.Event().wait()

    async def around() -> None:
        async with asyncio.timeout(10.0):
            with pytest.raises(TimeoutError), Deadline(Deadlines(1.0)):
                await between()

    task = await started(around())
    await passed(1.0)
    assert await ended(task) is None


async def test_lateness_is_known_to_those_that_outlast_the_deadline() -> None:
    proceed = asyncio.Event()

    async def later(deadline: Deadline) -> bool:
        await proceed.wait()
        return deadline.expired()

    for seconds, expired in ((0.5, True), (10.0, False)):
        proceed.clear()
        tasks: list[asyncio.Task[bool]] = []
        try:
            with Deadline(Deadlines(seconds)) as deadline:
                tasks.append(asyncio.create_task(later(deadline)))
                await passed(1.0)
        except TimeoutError:
            assert expired
        proceed.set()
        assert await asyncio.gather(*tasks) == [expired]


# --- many


def timers() -> list[asyncio.TimerHandle]:
    """Those of the loop that will be called."""
    loop: Any = asyncio.get_running_loop()
    return [timer for timer in loop._scheduled if not timer.cancelled()]


async def test_all_of_one_length_share_a_timer_and_pass_in_their_order() -> None:
    deadlines = Deadlines(1.0)
    tasks = []
    for _ in range(3):
        tasks.append(await begun(deadlines))
        assert len(timers()) == 1
        await passed(0.25)
    done = []
    for _ in range(4):
        await passed(0.25)
        done.append([task.done() for task in tasks])
    assert done == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
        [True, True, True],
    ]
    assert timers() == []
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_those_set_at_the_same_time_pass_together_though_one_of_them_has_left() -> None:
    deadlines = Deadlines(1.0)
    told: list[bool] = []
    tasks = [await begun(deadlines, told=told) for _ in range(100)]
    tasks[0].cancel()
    await passed(1.0)
    assert all(task.done() for task in tasks)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert told == [False] + 99 * [True]
    assert not deadlines.running


async def test_the_timer_goes_on_to_the_oldest_that_is_left() -> None:
    deadlines = Deadlines(1.0)
    with Deadline(deadlines):
        await passed(0.5)
    task = await begun(deadlines)
    assert [timer.when() for timer in timers()] == [1.0]
    await passed(0.5)
    assert [timer.when() for timer in timers()] == [1.5]
    assert not task.done()
    await passed(0.25)
    assert isinstance(await ended(task), TimeoutError)


async def test_what_is_answered_at_once_costs_no_timer_each() -> None:
    deadlines = Deadlines(1.0)
    seen = set()
    for _ in range(1000):
        with Deadline(deadlines):
            seen |= set(map(id, timers()))
    assert len(seen) == 1
    await passed(1.0)
    assert timers() == []
    assert not deadlines.running


async def test_closed_they_leave_nothing_and_end_nothing() -> None:
    deadlines = Deadlines(1.0)
    task = await begun(deadlines)
    deadlines.close()
    assert timers() == []
    await passed(2.0)
    assert not task.done()
    task.cancel()
    assert isinstance(await ended(task), asyncio.CancelledError)


# --- what is kept


class Held:
    """What a request has in hand, such as an open file."""


@pytest.mark.parametrize("end", ["late", "done", "failed"])
async def test_one_that_is_kept_keeps_nothing_of_what_it_was_for(end: str) -> None:
    """Idle connections keep it, and fetches for several clients; the collector need not help."""
    deadlines = Deadlines(1.0)
    kept: list[Deadline] = []
    seen: list[weakref.ref[Held]] = []

    async def request() -> None:
        held = Held()
        seen.append(weakref.ref(held))
        with Deadline(deadlines) as deadline:
            kept.append(deadline)
            if end == "late":
                await asyncio.Event().wait()
        if end == "failed":
            raise LookupError

    gc.disable()
    try:
        task = await started(request())
        await passed(0.75)
        if end == "late":
            assert isinstance(await ended(task), TimeoutError)
        else:
            await asyncio.wait([task])
            assert (task.exception() is None) is (end == "done")
            assert len(timers()) == 1
        del task
        assert seen[0]() is None
    finally:
        gc.enable()
