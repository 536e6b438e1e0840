"""Reads of one version through the cache: one look-up for all of them."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from rangeserver.cache import version_entries
from rangeserver.cache.entry import Entry
from rangeserver.origin.base import Part, Representation
from rangeserver.protocol.ranges import WHOLE, ByteSpan
from rangeserver.protocol.representation import ObjectKey
from tests.cache.setting import Setting, content

KEY = ObjectKey("a")
DATA = random.Random(5).randbytes(300_000)
SPANS = (ByteSpan(5, 100_000), ByteSpan(200_000, 250_000), ByteSpan(0, 10))


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"a": DATA}


@pytest.fixture
def found(one: Setting, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The look-ups in the cache."""
    looked_up: list[str] = []
    find = one.cache.find

    async def counted(cache_key: str) -> Entry | None:
        looked_up.append(cache_key)
        return await find(cache_key)

    monkeypatch.setattr(one.cache, "find", counted)
    return looked_up


async def read(representation: Representation[Part], span: ByteSpan) -> bytes:
    async with representation.read(span) as parts:
        return b"".join([content(part) async for part in parts])


async def test_all_reads_need_one_look_up(one: Setting, found: list[str]) -> None:
    facts = one.inner.current["a"]
    await one.read(facts)
    found.clear()
    representation = one.origin.representation(facts)
    for span in SPANS:
        assert await read(representation, span) == DATA[span.start : span.stop]
    assert len(found) == 1


async def test_of_what_was_opened_too(one: Setting, found: list[str]) -> None:
    await one.read(one.inner.current["a"])
    found.clear()
    async with one.origin.open(KEY, WHOLE) as opened:
        for span in SPANS:
            assert await read(opened, span) == DATA[span.start : span.stop]
    assert len(found) == 1


async def test_what_was_not_cached_is_not_looked_up_again(one: Setting, found: list[str]) -> None:
    assert await one.read(one.inner.current["a"]) == DATA
    assert len(found) == 1


async def test_an_entry_of_another_version_is_not_used(one: Setting) -> None:
    async with one.origin.open(KEY, WHOLE) as opened:
        one.inner.put("a", DATA[::-1])
        await opened.revalidate()
        assert await read(opened, SPANS[0]) == DATA[::-1][5:100_000]


async def test_an_entry_whose_file_was_removed_is_replaced(
    one: Setting, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_entries, "_SEEN_SECONDS", 0.0)
    facts = one.inner.current["a"]
    representation = one.origin.representation(facts)
    assert await read(representation, SPANS[0]) == DATA[5:100_000]
    entry = await one.cache.find(one.origin.cache_key(KEY))
    assert entry is not None
    await one.cache.drop(entry)
    found.clear()
    assert await read(representation, SPANS[1]) == DATA[200_000:250_000]
    assert len(found) == 1
