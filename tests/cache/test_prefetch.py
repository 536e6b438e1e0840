"""Which fills one reader begins, joins and leaves."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from functools import partial

import pytest

from rangeserver.cache.entry import Entry
from rangeserver.cache.prefetch import Prefetcher
from rangeserver.cache.read_ahead import MIN_FETCH_BYTES
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectKey
from tests.cache.files import BLOCK
from tests.cache.setting import Setting

DATA = random.Random(7).randbytes(6_000_000)
LAST = len(DATA) - 1


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"a": DATA}


@pytest.fixture
async def entry(one: Setting) -> AsyncIterator[Entry]:
    """An entry of which only the last block is there; no fetch goes beyond its first part."""
    await one.read(one.inner.current["a"], ByteSpan(LAST, LAST + 1))
    found = await one.cache.find(one.origin.cache_key(ObjectKey("a")))
    assert found is not None
    one.inner.hold()
    yield found
    one.inner.release()


def prefetcher(one: Setting, entry: Entry) -> Prefetcher:
    source = partial(one.inner.once, one.inner.current["a"])
    return Prefetcher(one.cache, entry, source, len(DATA))


async def test_the_window_is_fetched_once(one: Setting, entry: Entry) -> None:
    reader = prefetcher(one, entry)
    for _ in range(2):
        assert reader.prefetch(0)
    fills = set(entry.filling.values())
    assert [(fill.first, fill.stop) for fill in fills] == [(0, MIN_FETCH_BYTES // BLOCK)]
    assert reader.fill_at(0) in fills
    reader.leave()
    assert all(fill.abandoned for fill in fills)


async def test_another_reader_joins_a_fill_that_is_near(one: Setting, entry: Entry) -> None:
    first, second = prefetcher(one, entry), prefetcher(one, entry)
    assert first.prefetch(0)
    fill = second.fill_at(BLOCK)
    assert fill is first.fill_at(0)
    first.leave()
    assert not fill.abandoned
    second.leave()
    assert fill.abandoned


async def test_nothing_is_prefetched_into_a_removed_file(one: Setting, entry: Entry) -> None:
    await one.cache.drop(entry)
    assert prefetcher(one, entry).prefetch(0)
    assert not entry.filling


async def test_with_nothing_left_of_the_budget_only_what_is_needed_is_fetched(
    one: Setting, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one.cache.budget, "try_take", lambda *_: False)
    reader = prefetcher(one, entry)
    assert reader.prefetch(0)
    assert not entry.filling
    fill = reader.fill_at(BLOCK)
    assert (fill.first, fill.stop) == (1, 2)
    reader.leave()


async def test_what_came_while_the_reader_waited_counts(one: Setting, entry: Entry) -> None:
    reader = prefetcher(one, entry)
    fill = reader.fill_at(0)
    one.inner.release()
    while fill.filled_to < BLOCK:
        await fill.wait_past(fill.filled_to)
    assert reader.waited_for(0, BLOCK) == BLOCK
    assert reader.waited_for(10, BLOCK - 10) == BLOCK - 20
    assert reader.waited_for(BLOCK, 2 * BLOCK) == 0
    reader.leave()
