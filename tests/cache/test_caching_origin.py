"""An origin behind a cache: what it is asked, and what is told of it."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rangeserver.cache import transfer
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.cache_key import cache_key_of
from rangeserver.cache.purging import purge_object
from rangeserver.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginUnreachable,
)
from rangeserver.origin.base import ReadReport
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectKey
from tests.cache.files import BLOCK
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, content, setting
from tests.support import eventually

KEY = ObjectKey("a")
DATA = random.Random(3).randbytes(2_500_000)
PLACE = cache_key_of("", "films", "a")


def kept(directory: Path) -> list[Path]:
    return list(directory.glob("objects/*/*"))


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"a": DATA}


# --- bytes


async def test_the_first_request_brings_facts_and_bytes(one: Setting) -> None:
    opened = await one.open()
    assert (opened.facts, opened.begun, opened.unvalidated) == (one.inner.current["a"], None, False)
    report = ReadReport()
    assert await one.read(opened.facts, report=report) == DATA
    assert (report.cached, report.fetched) == (0, len(DATA))
    asked = [span for _, span in one.inner.requests]
    assert asked[0] == ByteSpan(0, 1 << 20)
    assert one.inner.bytes_asked == len(DATA)
    del one.inner.requests[:]
    again = ReadReport()
    assert await one.read(opened.facts, ByteSpan(5, 2_000_000), again) == DATA[5:2_000_000]
    assert (again.cached, again.fetched, one.inner.requests) == (1_999_995, 0, [])
    assert (one.counted("hits_total"), one.counted("misses_total")) == (1, 1)


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        (AskedRange(20_000, 29_999), ByteSpan(BLOCK, 2 * BLOCK)),
        (AskedRange(2_400_000, None), ByteSpan(146 * BLOCK, len(DATA))),
        (AskedRange(None, 5), ByteSpan(len(DATA) - 5 - BLOCK, len(DATA))),
    ],
)
async def test_whole_blocks_are_asked_for(
    one: Setting, wanted: AskedRange, first: ByteSpan
) -> None:
    opened = await one.open(wanted=wanted)
    span = wanted.span(len(DATA))
    assert await one.read(opened.facts, span) == DATA[span.start : span.stop]
    assert one.inner.requests == [("a", first)]


async def test_two_processes_fetch_nothing_twice(tmp_path: Path, one: Setting) -> None:
    facts = one.inner.current["a"]
    async with setting(tmp_path, one.inner) as other:
        await one.read(facts, ByteSpan(0, BLOCK))
        one.inner.hold()
        one.inner.part_bytes = 1000
        del one.inner.requests[:]
        span = ByteSpan(1_200_000, 1_210_000)
        tasks = [asyncio.create_task(each.read(facts, span)) for each in (one, other)]
        await eventually(lambda: one.inner.open_now == 1)
        await asyncio.sleep(0.05)  # time for five looks of the other
        assert len(one.inner.requests) == 1
        one.inner.release()
        assert await asyncio.gather(*tasks) == [DATA[1_200_000:1_210_000]] * 2
        assert len(one.inner.requests) == 1


async def test_what_one_process_gives_up_the_other_fetches(tmp_path: Path, one: Setting) -> None:
    facts = one.inner.current["a"]
    async with setting(tmp_path, one.inner) as other:
        one.inner.hold()
        one.inner.part_bytes = 1000
        tasks = [asyncio.create_task(one.read(facts, ByteSpan(0, 9000)))]
        await eventually(lambda: one.inner.open_now == 1)
        tasks.append(asyncio.create_task(other.read(facts, ByteSpan(0, 9000))))
        await asyncio.sleep(0.03)
        tasks[0].cancel()
        await eventually(lambda: len(one.inner.requests) == 2)
        one.inner.release()
        assert await tasks[1] == DATA[:9000]
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("directive", ["no-store", "Private", 'max-age=5, private="x"'])
async def test_what_must_not_be_kept_is_not(one: Setting, tmp_path: Path, directive: str) -> None:
    facts = one.inner.put("a", DATA, cache_control=directive)
    async with one.origin.open(KEY, AskedRange(5, 9)) as opened:
        assert opened.begun is not None
        async with opened.read(ByteSpan(5, 10)) as parts:
            assert b"".join([content(part) async for part in parts]) == DATA[5:10]
        assert opened.begun is None
    assert await one.read(facts) == DATA
    assert not kept(tmp_path)
    assert one.counted("bypassed_total") == 2


async def test_of_what_must_not_be_kept_just_the_range_is_asked_for(
    one: Setting, tmp_path: Path
) -> None:
    """Not blocks around it, of which nothing would be of use, once that is known of the object."""
    one.inner.put("a", DATA, cache_control="no-store")
    wanted = AskedRange(1_000_005, 1_500_000)
    for number in range(3):
        del one.inner.requests[:]
        await one.open(wanted=wanted)
        assert (one.inner.requests == [("a", ByteSpan(1_000_005, 1_500_001))]) is (number > 0)
    one.inner.put("a", DATA)
    await one.open(wanted=wanted)  # which tells that it may be kept now
    facts = (await one.open(wanted=wanted)).facts
    assert await one.read(facts) == DATA
    assert kept(tmp_path)


async def test_an_object_that_may_no_longer_be_kept_goes(one: Setting, tmp_path: Path) -> None:
    await one.read((await one.open()).facts)
    assert kept(tmp_path)
    one.inner.current["a"] = one.inner.put("a", DATA, cache_control="no-store")
    await one.open()
    assert not kept(tmp_path)


async def test_an_empty_object(one: Setting) -> None:
    one.inner.put("a", b"")
    assert (await one.open()).facts.size == 0
    assert (await one.open()).facts.size == 0


# --- failures


async def test_an_error_of_the_origin_is_that_of_all_who_wait(one: Setting) -> None:
    facts = one.inner.current["a"]
    await one.read(facts, ByteSpan(len(DATA) - 1, len(DATA)))  # there is a file, all can begin
    one.inner.refusals = 1
    reads = (one.read(facts, ByteSpan(0, 100_000)) for _ in range(5))
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert {type(each) for each in results} == {OriginUnreachable}
    assert len({id(each) for each in results}) == 5  # each with a traceback of its own
    assert await one.read(facts) == DATA


async def test_a_body_that_breaks_is_fetched_on_from_its_last_byte_or_fails(one: Setting) -> None:
    facts = one.inner.current["a"]
    for breaks in range(1, 20):
        one.inner.breaks = breaks
        try:
            assert await one.read(facts) == DATA
        except OriginBodyError:
            one.inner.breaks = 0
    assert await one.read(facts) == DATA


@pytest.mark.parametrize("method", ["write", "record", "checksums"])
async def test_a_disk_that_fails_is_passed_by(
    one: Setting, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = one.inner.current["a"]
    assert await one.read(facts, ByteSpan(0, 10)) == DATA[:10]

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(CacheFile, method, fails)
    assert await one.read(facts) == DATA
    assert not one.cache.may_write()
    assert one.counted("errors_total", kind="write") >= 1
    assert one.counted("usable") == 0
    assert await one.read(facts) == DATA


async def test_bytes_that_cannot_be_read_back_are_fetched_past_the_disk(
    one: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader neither fails nor spins while they count as filled."""
    facts = one.inner.current["a"]
    looks: list[int] = []

    def fails(*_: object) -> bool:
        looks.append(1)
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr("rangeserver.cache.cached_read.is_resident", fails)
    one.inner.part_bytes = 1000
    assert await one.read(facts, ByteSpan(0, 100_000)) == DATA[:100_000]
    assert 1 <= len(looks) < 30


async def test_damaged_blocks_are_fetched_again(tmp_path: Path, one: Setting) -> None:
    facts = one.inner.current["a"]
    await one.read(facts)
    (path,) = kept(tmp_path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 10)
        file.write(b"xxxx")
    async with setting(tmp_path, one.inner) as other:
        del one.inner.requests[:]
        assert await other.read(facts) == DATA
        assert one.inner.requests == [("a", ByteSpan(152 * BLOCK, len(DATA)))]
        assert other.counted("errors_total", kind="damaged") == 1


# --- versions


async def test_a_version_that_is_gone_takes_only_its_own_file_with_it(one: Setting) -> None:
    old = one.inner.current["a"]
    await one.read(old, ByteSpan(0, 10))
    new = one.inner.put("a", DATA[::-1])
    await one.open()  # notices
    assert await one.read(new) == DATA[::-1]
    with pytest.raises(ObjectChanged):
        await one.read(old, ByteSpan(2_000_000, 2_000_010))
    del one.inner.requests[:]
    assert await one.read(new) == DATA[::-1]
    assert one.inner.requests == []


async def test_a_reader_whose_file_was_removed_goes_on(one: Setting) -> None:
    facts = one.inner.current["a"]
    one.inner.part_bytes = 1000
    got = bytearray()
    async with one.origin.read(facts, ByteSpan(0, len(DATA))) as parts:
        async for part in parts:
            if not got:
                purge_object(one.cache.directory, PLACE)
            got += os.pread(part.file.fileno(), part.length, part.offset)  # type: ignore[union-attr]
    assert bytes(got) == DATA


async def test_the_same_tag_for_another_size_is_another_version(one: Setting) -> None:
    facts = one.inner.current["a"]
    await one.read(facts)
    one.inner.current["a"] = shorter = one.inner.put("a", DATA[:100])
    one.inner.versions[facts.etag] = DATA[:100]
    object.__setattr__(shorter, "etag", facts.etag)
    await one.open()
    assert await one.read(shorter) == DATA[:100]
    assert await one.read(shorter) == DATA[:100]
    assert one.counted("bypassed_total") == 0


# --- belief


async def test_what_another_process_was_told_is_believed_for_its_time(
    tmp_path: Path, inner: MemoryOrigin
) -> None:
    async with (
        setting(tmp_path, inner, ttl_seconds=60) as one,
        setting(tmp_path, inner, ttl_seconds=60) as other,
    ):
        first = await one.open()
        opened = await other.open()
        assert (opened.unvalidated, len(inner.requests)) == (True, 1)
        # As old as they are, whoever tells them.
        assert opened.facts.validated_at == pytest.approx(first.facts.validated_at, abs=0.1)
        await other.origin.describe(KEY)
        assert inner.requests[1:] == [("a", None)]


@pytest.mark.parametrize(("age", "believed"), [(59.0, True), (61.0, False)])
async def test_a_file_made_late_does_not_make_facts_young(
    tmp_path: Path, inner: MemoryOrigin, age: float, believed: bool
) -> None:
    """They are as old as they are: neither of now, nor of no time at all."""
    async with setting(tmp_path, inner, ttl_seconds=60) as one:
        facts = await one.origin.describe(KEY)
        await one.read(replace(facts, validated_at=facts.validated_at - age))
        assert (await one.open()).unvalidated is believed
        assert (await one.open()).unvalidated


@pytest.mark.fault("C11")
async def test_a_clock_that_was_set_back_makes_nothing_young(
    tmp_path: Path, inner: MemoryOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with setting(tmp_path, inner, ttl_seconds=60) as one:
        await one.open()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now - 10)
        assert not (await one.open()).unvalidated
        inner.refusals = 1000
        assert (await one.open()).unvalidated  # noted a moment ago, by the clock as it is now
        monkeypatch.setattr(time, "time", lambda: now - 20)
        with pytest.raises(OriginUnreachable):
            await one.open()


async def test_no_cache_is_always_asked(tmp_path: Path, inner: MemoryOrigin) -> None:
    inner.put("a", DATA, cache_control="max-age=60, no-cache")
    async with setting(tmp_path, inner, ttl_seconds=60) as one:
        for number in range(1, 4):
            assert not (await one.open()).unvalidated
            assert len(inner.requests) == number
        inner.refusals = 1
        with pytest.raises(OriginUnreachable):
            await one.open()


async def test_what_is_known_is_told_while_the_origin_cannot_be_asked(
    tmp_path: Path, inner: MemoryOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with setting(tmp_path, inner, stale_if_error_seconds=100) as one:
        facts = (await one.open()).facts
        assert await one.read(facts) == DATA
        inner.refusals = 1000
        opened = await one.open()
        assert (opened.facts, opened.unvalidated) == (facts, True)
        assert await one.origin.describe(KEY) == facts
        assert await one.read(facts) == DATA
        assert one.counted("stale_answers_total") == 2
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 101)
        with pytest.raises(OriginUnreachable):
            await one.open()


async def test_but_not_what_must_be_revalidated(tmp_path: Path, inner: MemoryOrigin) -> None:
    inner.put("a", DATA, cache_control="must-revalidate")
    async with setting(tmp_path, inner) as one:
        await one.open()
        inner.refusals = 1
        with pytest.raises(OriginUnreachable):
            await one.open()


@pytest.mark.parametrize("error", [AccessDenied(), ObjectNotFound()])
async def test_nor_what_the_origin_refuses(
    one: Setting, tmp_path: Path, error: AccessDenied | ObjectNotFound
) -> None:
    await one.read((await one.open()).facts)
    one.inner.error, one.inner.refusals = error, 1
    with pytest.raises(type(error)):
        await one.open()
    assert bool(kept(tmp_path)) is isinstance(error, AccessDenied)


@pytest.mark.parametrize("error", [ObjectNotFound(), ObjectChanged()])
async def test_what_a_fetch_learns_counts_though_nobody_waits_for_it(
    one: Setting, tmp_path: Path, error: ObjectNotFound | ObjectChanged
) -> None:
    facts = one.inner.current["a"]
    await one.read(facts, ByteSpan(0, 1_000_000))
    assert kept(tmp_path)
    del one.inner.requests[:]
    one.inner.error, one.inner.refusals = error, 1
    reader = asyncio.create_task(one.read(facts, ByteSpan(1_500_000, 2_000_000)))
    while not one.inner.requests:  # noqa: ASYNC110 (in the turn in which it is asked)
        await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await eventually(lambda: not kept(tmp_path))


# --- leaving


async def test_a_read_that_nobody_takes_over_is_closed_at_once(
    one: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when another process was faster."""
    monkeypatch.setattr("rangeserver.cache.entry.Entry.missing_run", lambda *_: 0)
    async with one.origin.open(KEY, AskedRange(0, None)):
        assert one.inner.open_now == 0


async def test_one_who_opens_and_leaves_stops_the_fetch(
    one: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_FIRST_READER_SECONDS", 0.05)
    one.inner.hold()
    await one.open()
    assert one.inner.open_now == 1
    await eventually(lambda: one.inner.open_now == 0)


async def test_leaving_at_every_moment_leaves_nothing(one: Setting) -> None:
    facts = one.inner.current["a"]
    one.inner.part_bytes = 20_000
    for turns in range(60):
        task = asyncio.create_task(one.read(facts, ByteSpan(turns * BLOCK, (turns + 9) * BLOCK)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: not one.cache.tasks)
    assert one.cache.budget.taken == 0
    assert await one.read(facts) == DATA
