"""Blocks on their way: for all who need them, as long as anyone does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from rangeserver.cache import fill as module
from rangeserver.cache.claims import claim, release
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import CacheFailed
from rangeserver.cache.fill import Fill
from rangeserver.cache.transfer import begin_fill
from rangeserver.errors import (
    ObjectChanged,
    OriginBodyError,
    OriginError,
    OriginProtocolError,
    OriginRecalled,
)
from rangeserver.protocol.ranges import ByteSpan
from tests.cache.files import BLOCK
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting
from tests.support import eventually

DATA = random.Random(3).randbytes(4 * BLOCK)


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"a": DATA}


@pytest.fixture(autouse=True)
def small_parts(inner: MemoryOrigin) -> None:
    inner.part_bytes = 1000


async def entry_of(one: Setting) -> Entry:
    entry = await one.cache.create("aws films a", one.inner.current["a"], "me")
    assert entry is not None
    return entry


def begun(one: Setting, entry: Entry, first: int = 0, stop: int = 4) -> Fill:
    source = partial(one.inner.once, one.inner.current["a"])
    made = begin_fill(one.cache, entry, (first, stop), source, reserved=0)
    made.attach(one)
    return made


async def test_it_is_read_as_it_comes(one: Setting) -> None:
    entry = await entry_of(one)
    one.inner.hold()
    fill = begun(one, entry)
    await fill.wait_past(0)
    assert fill.filled_to == entry.available(0, len(DATA)) == 1000
    assert one.cache.budget.taken == len(DATA) - 1000
    one.inner.release()
    await eventually(lambda: fill.over)
    assert (fill.over, fill.error, entry.available(0, len(DATA))) == (True, None, len(DATA))
    assert claim(entry.file, 0, 4, fetch=False).good == [0, 1, 2, 3]


async def test_it_ends_when_nobody_reads(one: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.02)
    entry = await entry_of(one)
    one.inner.hold()
    fill = begun(one, entry)
    await fill.wait_past(0)
    fill.detach(one)
    await eventually(lambda: fill.over)
    assert (fill.error, entry.filling, one.cache.budget.taken) == (None, {}, 0)


async def test_with_the_block_it_is_at(one: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 60.0)
    entry = await entry_of(one)
    one.inner.hold()
    fill = begun(one, entry)
    await fill.wait_past(0)
    fill.detach(one)
    one.inner.release()
    await eventually(lambda: fill.over)
    assert entry.available(0, len(DATA)) == BLOCK


async def test_one_reader_is_enough(one: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.01)
    entry = await entry_of(one)
    one.inner.hold()
    fill = begun(one, entry)
    await fill.wait_past(0)
    fill.detach(one)
    fill.attach(entry)
    await asyncio.sleep(0.03)
    assert not fill.over
    one.inner.release()
    await eventually(lambda: fill.over)
    assert entry.available(0, len(DATA)) == len(DATA)


async def test_whatever_happens_the_blocks_are_free_again(tmp_path: Path, one: Setting) -> None:
    entry = await entry_of(one)
    one.inner.refusals = 1
    fill = begun(one, entry)
    await fill.wait_past(0)
    assert fill.error is not None
    fill.detach(one)
    async with setting(tmp_path, one.inner) as other:
        assert await asyncio.wait_for(other.read(one.inner.current["a"]), 5) == DATA
        assert other.counted("errors_total", kind="damaged") == 0


async def test_too_few_bytes_are_an_error(one: Setting) -> None:
    entry = await entry_of(one)
    facts = one.inner.current["a"]

    def too_few(span: ByteSpan, _: object) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return one.inner.read(facts, ByteSpan(span.start, span.stop - 5))

    fill = begin_fill(one.cache, entry, (0, 4), too_few, reserved=0)
    await eventually(lambda: fill.broken)
    assert isinstance(fill.error, OriginProtocolError)
    fill.detach(one)
    await eventually(lambda: fill.over)
    assert entry.available(0, len(DATA)) == 3 * BLOCK


class Attempts:
    """A source whose attempts end where they are told to."""

    def __init__(self, one: Setting) -> None:
        self.one = one
        self.spans: list[ByteSpan] = []
        self.after: list[OriginError | None] = []
        self.ends: list[tuple[int, OriginError]] = []

    @asynccontextmanager
    async def __call__(
        self, span: ByteSpan, after: OriginError | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.spans.append(span)
        self.after.append(after)
        stop, error = self.ends.pop(0) if self.ends else (span.stop, None)
        facts = self.one.inner.current["a"]
        async with self.one.inner.read(facts, ByteSpan(span.start, stop)) as parts:
            yield self._ended(parts, error)

    async def _ended(
        self, parts: AsyncIterator[bytes], error: OriginError | None
    ) -> AsyncGenerator[bytes]:
        async for part in parts:
            yield part
        if error is not None:
            raise error


@pytest.fixture
def attempts(one: Setting) -> Attempts:
    return Attempts(one)


async def broken(one: Setting, entry: Entry, attempts: Attempts) -> Fill:
    """One whose first attempt has broken inside its second block."""
    attempts.ends = [(BLOCK + 1234, OriginBodyError("broken"))]
    fill = begin_fill(one.cache, entry, (0, 4), attempts, reserved=0)
    fill.attach(one)
    await eventually(lambda: fill.broken)
    return fill


async def test_a_broken_one_keeps_what_was_written_and_goes_on_at_its_next_byte(
    one: Setting, attempts: Attempts
) -> None:
    entry = await entry_of(one)
    fill = await broken(one, entry, attempts)
    assert entry.available(0, len(DATA)) == fill.filled_to == BLOCK + 1234
    assert (fill.failed, one.cache.budget.taken) == (1, 0)
    fill.retry()
    await eventually(lambda: fill.over)
    assert attempts.spans == [ByteSpan(0, len(DATA)), ByteSpan(BLOCK + 1234, len(DATA))]
    assert isinstance(attempts.after[1], OriginBodyError)
    assert fill.error is None
    assert claim(entry.file, 0, 4, fetch=False).good == [0, 1, 2, 3]  # by their checksums


async def test_a_broken_one_has_its_blocks_locked_until_nobody_wants_it(
    one: Setting, attempts: Attempts, tmp_path: Path
) -> None:
    entry = await entry_of(one)
    fill = await broken(one, entry, attempts)
    async with setting(tmp_path, one.inner) as other:
        file = (await entry_of(other)).file
        assert claim(file, 1, 4, fetch=True).run is None
        fill.detach(one)
        await eventually(lambda: fill.over)
        assert isinstance(fill.error, OriginBodyError)
        assert claim(file, 1, 4, fetch=True).run == (1, 4)
        release(file, (1, 4))
    assert entry.available(0, len(DATA)) == BLOCK


async def test_a_broken_one_that_is_not_wanted_again_is_over(
    one: Setting, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads from it may be a viewer that pauses for hours."""
    monkeypatch.setattr(module, "_RETRY_WAIT_SECONDS", 0.01)
    fill = await broken(one, await entry_of(one), attempts)
    await eventually(lambda: fill.over)
    assert isinstance(fill.error, OriginBodyError)


async def test_one_whose_connection_was_needed_goes_on_by_itself(
    one: Setting, attempts: Attempts
) -> None:
    attempts.ends = [(5000, OriginRecalled("for others"))]
    entry = await entry_of(one)
    fill = begin_fill(one.cache, entry, (0, 4), attempts, reserved=0)
    await eventually(lambda: fill.over)
    assert (fill.failed, attempts.spans[1].start) == (0, 5000)
    assert entry.available(0, len(DATA)) == len(DATA)


async def test_what_cannot_get_better_ends_it(one: Setting, attempts: Attempts) -> None:
    attempts.ends = [(5000, ObjectChanged("another"))]
    entry = await entry_of(one)
    fill = begin_fill(one.cache, entry, (0, 4), attempts, reserved=0)
    await eventually(lambda: fill.over)
    assert isinstance(fill.error, ObjectChanged)


async def test_and_too_many_are_not_kept(one: Setting) -> None:
    entry = await entry_of(one)
    facts = one.inner.current["a"]
    one.inner.part_bytes = 7 * BLOCK // 4
    fill = begin_fill(
        *(one.cache, entry, (0, 2)),
        lambda *_: one.inner.read(facts, ByteSpan(0, 4 * BLOCK)),
        reserved=0,
    )
    await eventually(lambda: fill.over)
    assert (fill.filled_to, fill.error) == (2 * BLOCK, None)
    assert list(entry.file.present()) == [(0, 2)]
    assert claim(entry.file, 0, 2, fetch=False).good == [0, 1]


async def test_an_error_of_ours_leaves_nobody_waiting(one: Setting) -> None:
    entry = await entry_of(one)
    source = lambda *_: 1 // 0  # noqa: E731
    fill = begin_fill(one.cache, entry, (0, 4), source, reserved=0)  # type: ignore[arg-type]
    await asyncio.wait_for(fill.wait_past(0), 5)
    assert isinstance(fill.error, CacheFailed)


async def test_a_process_that_hangs_is_not_waited_for(
    tmp_path: Path, one: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rangeserver.cache.block_lock._OTHERS_SECONDS", 0.05)
    entry = await entry_of(one)
    assert claim(entry.file, 0, 4, fetch=True).run == (0, 4)
    async with setting(tmp_path, one.inner) as other:
        assert await other.read(one.inner.current["a"]) == DATA


async def test_blocks_stay_ours_until_the_look_for_them_is_over(one: Setting) -> None:
    """The next fill of this process would share the lock, and lose it."""
    entry = await entry_of(one)
    fill = begun(one, entry)
    await asyncio.sleep(0)  # it has begun to look
    assert fill.task is not None
    fill.task.cancel()
    await asyncio.gather(fill.task, return_exceptions=True)
    assert entry.filling == {}
    assert claim(entry.file, 0, 4, fetch=True).run == (0, 4)
    release(entry.file, (0, 4))
