"""The handle of one version of an object."""

from __future__ import annotations

import os

import pytest

from rangeserver.errors import ObjectChanged
from rangeserver.origin.base import Representation
from rangeserver.protocol.ranges import WHOLE, AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectKey
from tests.cache.model_origin import MemoryOrigin

KEY = ObjectKey("a")
DATA = os.urandom(100_000)
SPAN = ByteSpan(5, 60_000)


@pytest.fixture
def origin() -> MemoryOrigin:
    made = MemoryOrigin()
    made.put("a", DATA)
    return made


async def read(representation: Representation[bytes], span: ByteSpan) -> bytes:
    async with representation.read(span) as parts:
        return b"".join([part async for part in parts])


async def test_the_read_that_has_begun_serves_its_span_once(origin: MemoryOrigin) -> None:
    async with origin.open(KEY, AskedRange(5, 59_999)) as opened:
        for _ in range(2):
            assert await read(opened, SPAN) == DATA[5:60_000]
    assert origin.requests == [("a", SPAN)] * 2


async def test_another_span_leaves_it_as_it_is(origin: MemoryOrigin) -> None:
    async with origin.open(KEY, WHOLE) as opened:
        assert await read(opened, SPAN) == DATA[5:60_000]
        assert opened.begun is not None
        assert await read(opened, ByteSpan(0, len(DATA))) == DATA
    assert [span for _, span in origin.requests] == [ByteSpan(0, len(DATA)), SPAN]


async def test_a_version_that_is_gone_is_not_read(origin: MemoryOrigin) -> None:
    representation = Representation(origin.current["a"], origin)
    origin.put("a", DATA)
    with pytest.raises(ObjectChanged):
        await read(representation, SPAN)


async def test_revalidated_it_is_of_the_current_version(origin: MemoryOrigin) -> None:
    representation = Representation(origin.current["a"], origin, unvalidated=True)
    origin.put("a", DATA[::-1])
    await representation.revalidate()
    assert (representation.facts, representation.unvalidated) == (origin.current["a"], False)
    assert await read(representation, SPAN) == DATA[::-1][5:60_000]
