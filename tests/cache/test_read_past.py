"""Reading past the cache with a read that had begun for it."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack, aclosing

import pytest

from rangeserver.cache.read_past import read_past
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectKey
from tests.cache.model_origin import MemoryOrigin

DATA = random.Random(9).randbytes(300_000)


@pytest.mark.parametrize(
    ("wanted", "rest"),
    [
        (ByteSpan(100_000, 200_000), None),
        (ByteSpan(150_000, 150_001), None),
        (ByteSpan(100_000, 300_000), ByteSpan(200_000, 300_000)),
        (ByteSpan(199_999, 250_000), ByteSpan(200_000, 250_000)),
        (ByteSpan(250_000, 260_000), ByteSpan(250_000, 260_000)),
    ],
)
async def test_what_has_begun_comes_first_and_then_the_rest(
    wanted: ByteSpan, rest: ByteSpan | None
) -> None:
    origin = MemoryOrigin()
    facts = origin.put("a", DATA)
    async with AsyncExitStack() as stack:
        opening = origin.begin(ObjectKey("a"), AskedRange(100_000, 199_999))
        opened = await stack.enter_async_context(opening)
        assert opened.begun is not None
        async with aclosing(read_past(origin, facts, opened.begun, stack, wanted)) as parts:
            received = b"".join([part async for part in parts])
    assert received == DATA[wanted.start : wanted.stop]
    assert [span for _, span in origin.requests[1:]] == ([] if rest is None else [rest])
    assert origin.open_now == 0
