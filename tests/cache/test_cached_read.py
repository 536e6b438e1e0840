"""One reader's way through an entry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from rangeserver.cache.cached_read import TURN_BYTES
from rangeserver.cache.transfer import begin_fill
from rangeserver.errors import OriginBusy
from rangeserver.origin.base import FileSlice, ReadReport
from rangeserver.protocol.ranges import ByteSpan
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting
from tests.support import eventually

DATA = random.Random(3).randbytes(12_000_000)
MIB = 1 << 20


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"a": DATA}


async def test_no_turn_is_longer_than_others_can_wait(one: Setting) -> None:
    facts = one.inner.current["a"]
    assert await one.read(facts) == DATA
    async with one.origin.read(facts, ByteSpan(5, len(DATA))) as parts:
        got = [part async for part in parts]
    assert all(isinstance(part, FileSlice) for part in got)
    assert {len(part) for part in got[:-1]} == {TURN_BYTES}


async def test_it_fetches_no_further_ahead_than_its_window(one: Setting) -> None:
    """A reader that takes little has little fetched for it."""
    async with one.origin.read(one.inner.current["a"], ByteSpan(0, len(DATA))) as parts:
        await anext(parts)
        await asyncio.sleep(0.05)
        assert one.inner.bytes_asked <= 2 * MIB


async def test_one_who_waits_has_more_fetched_at_a_time(one: Setting) -> None:
    assert await one.read(one.inner.current["a"]) == DATA
    together = [span for _, span in one.inner.requests if span is not None]
    assert sum(span.length for span in together) == len(DATA)
    assert len(together) <= 12


async def test_the_budget_bounds_what_is_on_its_way(tmp_path: Path, inner: MemoryOrigin) -> None:
    async with setting(tmp_path, inner, max_in_flight_bytes=MIB) as one:
        facts = inner.current["a"]
        spans = [ByteSpan(start, start + 3 * MIB) for start in range(0, 8 * MIB, MIB)]
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, one.cache.budget.taken)
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        bodies = await asyncio.gather(*(one.read(facts, span) for span in spans))
        watching.cancel()
        assert all(body == DATA[s.start : s.stop] for body, s in zip(bodies, spans, strict=True))
        assert 0 < most <= MIB


async def test_without_room_for_long_the_client_is_told(
    tmp_path: Path, inner: MemoryOrigin
) -> None:
    async with setting(tmp_path, inner, max_in_flight_bytes=MIB) as one:
        one.cache.wait_seconds = 0.05
        assert one.cache.budget.try_take("", MIB)
        with pytest.raises(OriginBusy):
            await one.read(inner.current["a"])
        one.cache.budget.give("", MIB)
        assert await one.read(inner.current["a"]) == DATA


async def test_what_was_fetched_ahead_in_vain_is_tried_again(one: Setting) -> None:
    """An error that came before anyone needed the bytes is nobody's."""
    facts = one.inner.current["a"]
    got = bytearray()
    async with one.origin.read(facts, ByteSpan(0, 3 * MIB)) as parts:
        async for part in parts:
            if not got:
                one.inner.refusals = 1
            got += DATA[len(got) : len(got) + len(part)]
    assert len(got) == 3 * MIB


async def test_a_report_tells_what_was_waited_for(one: Setting) -> None:
    facts = one.inner.current["a"]
    await one.read(facts, ByteSpan(0, MIB))
    report = ReadReport()
    await one.read(facts, ByteSpan(0, 2 * MIB), report)
    assert report.cached + report.fetched == 2 * MIB
    assert min(report.cached, report.fetched) > 0


async def test_a_seek_into_a_large_fetch_waits_for_none_of_it(one: Setting) -> None:
    """The block that is needed comes by a GET of its own, and the other fetch ends before it."""
    facts = one.inner.current["a"]
    await one.read(facts, ByteSpan(len(DATA) - 1, len(DATA)))  # so that there is an entry
    (entry,) = one.cache.entries
    block = entry.layout.block_bytes
    one.inner.part_bytes = block
    one.inner.hold()
    source = partial(one.inner.once, facts)
    run = (0, entry.layout.blocks - 1)
    large = begin_fill(one.cache, entry, run, source, reserved=0)
    large.attach(object())
    await eventually(lambda: large.filled_to == block)
    start = 80 * block + 5
    assert await one.read(facts, ByteSpan(start, start + 10)) == DATA[start : start + 10]
    assert large.stop == 80
    assert not large.over
    one.inner.release()
    await eventually(lambda: large.over)
    assert large.error is None
    one.inner.requests.clear()
    assert await one.read(facts, ByteSpan(0, 80 * block)) == DATA[: 80 * block]
    assert not one.inner.requests  # its blocks are all there
    assert await one.read(facts) == DATA


async def test_a_seek_within_a_large_block_that_is_coming_waits_for_it(
    tmp_path: Path, inner: MemoryOrigin
) -> None:
    """A block is the least that is fetched, however far into it the bytes are that are needed."""
    async with setting(tmp_path, inner, block_bytes=16 * MIB) as one:
        facts = inner.current["a"]
        inner.part_bytes = MIB
        inner.hold()
        first = asyncio.create_task(one.read(facts))
        await eventually(lambda: one.inner.open_now == 1)
        start = len(DATA) - 10
        seeking = asyncio.create_task(one.read(facts, ByteSpan(start, len(DATA))))
        await asyncio.sleep(0.01)
        inner.release()
        assert await seeking == DATA[start:]
        assert await first == DATA
        assert inner.bytes_asked == len(DATA)
