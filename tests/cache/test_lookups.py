"""One question for all who ask at a time, which belongs to none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rangeserver.cache import lookups
from rangeserver.cache.lookups import Lookup, Outcome
from rangeserver.errors import OriginBusy, OriginError, OriginUnreachable
from rangeserver.origin.base import ReadReport, Representation, current_report, reporting
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.cache.model_origin import MemoryOrigin
from tests.support import eventually

FACTS = ObjectFacts(ObjectKey("a"), 10, '"v1"')
OPENED: Representation[bytes] = Representation(FACTS, MemoryOrigin())


class Origin:
    """What is asked; it answers when it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.error: Exception | None = None
        self.open = 0
        self.settled: list[Outcome[bytes]] = []
        self.asked_for: ReadReport | None = None

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Representation[bytes]]:
        self.asked_for = current_report()
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        self.open += 1
        try:
            yield OPENED
        finally:
            self.open -= 1

    def lookup(self, *, in_background: bool = False) -> Lookup[bytes]:
        return Lookup(self.asking, self.settled.append, in_background=in_background)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    made = Origin()
    yield made
    await eventually(lambda: len(made.settled) == 1)
    assert made.open == 0


async def begun(lookup: Lookup[bytes]) -> ObjectFacts:
    async with lookup.opened() as opened:
        return opened.facts


async def test_the_one_who_began_it_gets_what_is_open_and_the_others_know_of_it(
    origin: Origin,
) -> None:
    lookup = origin.lookup()
    other = asyncio.create_task(lookup.outcome())
    await asyncio.sleep(0)
    origin.answers.set()
    async with lookup.opened() as opened:
        assert (opened.facts, origin.open) == (FACTS, 1)
        assert await other == opened
    assert origin.open == 0


async def test_it_outlasts_the_one_who_began_it(origin: Origin) -> None:
    lookup = origin.lookup()
    first = asyncio.create_task(begun(lookup))
    other = asyncio.create_task(lookup.outcome())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    origin.answers.set()
    assert await other == OPENED


async def test_it_ends_when_nobody_waits_any_more(origin: Origin) -> None:
    lookup = origin.lookup()
    waiting = [asyncio.create_task(lookup.outcome()) for _ in range(5)]
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    await eventually(lookup.task.done)
    assert origin.settled == [None]


async def test_but_not_at_once(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "LINGER_SECONDS", 60.0)
    lookup = origin.lookup()
    for _ in range(5):
        waiting = asyncio.create_task(lookup.outcome())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    origin.answers.set()
    assert await lookup.outcome() == OPENED


async def test_one_in_the_background_needs_nobody(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "LINGER_SECONDS", 0.0)
    lookup = origin.lookup(in_background=True)
    waiting = asyncio.create_task(lookup.outcome())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0.01)
    assert not lookup.task.done()
    origin.answers.set()
    await lookup.task
    assert origin.settled == [OPENED]


async def test_an_error_is_raised_to_one_and_told_to_the_others(origin: Origin) -> None:
    origin.error = OriginUnreachable("refused")
    lookup = origin.lookup()
    other = asyncio.create_task(lookup.outcome())
    await asyncio.sleep(0)
    origin.answers.set()
    with pytest.raises(OriginUnreachable, match="refused"):
        await begun(lookup)
    told = await other
    assert isinstance(told, OriginError)
    assert told.__traceback__ is None


async def test_one_that_is_stopped_leaves_nobody_waiting(origin: Origin) -> None:
    lookup = origin.lookup()
    first = asyncio.create_task(begun(lookup))
    other = asyncio.create_task(lookup.outcome())
    await asyncio.sleep(0)
    lookup.task.cancel()
    with pytest.raises(OriginBusy):
        await first
    assert await other is None


async def test_its_requests_are_of_the_one_who_began_it_and_charged_to_itself(
    origin: Origin,
) -> None:
    report = ReadReport("id", "client")
    origin.answers.set()
    with reporting(report):
        await begun(origin.lookup())
    asked_for = origin.asked_for
    assert asked_for is not None
    assert asked_for is not report
    assert (asked_for.request_id, asked_for.client) == ("id", "client")
