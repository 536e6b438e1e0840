from __future__ import annotations

import asyncio

import pytest

from rangeserver.background import running


async def test_background_work_is_cancelled_and_has_ended_on_leaving() -> None:
    events: list[str] = []

    async def work() -> None:
        events.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("ended")

    async with running(work()):
        await asyncio.sleep(0)
        events.append("inside")
    assert events == ["begun", "inside", "ended"]


async def test_an_error_of_background_work_is_raised_on_leaving() -> None:
    async def work() -> None:
        msg = "broken"
        raise LookupError(msg)

    with pytest.raises(LookupError):
        async with running(work()):
            await asyncio.sleep(0)
