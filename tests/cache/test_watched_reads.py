"""Reads that report when the origin has withdrawn a version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing

import pytest

from rangeserver.cache.watched_reads import WatchedReads
from rangeserver.errors import ObjectChanged, ObjectNotFound, ObjectWithdrawn, OriginUnreachable
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts
from tests.cache.model_origin import MemoryOrigin

DATA = bytes(range(256)) * 1000
SPAN = ByteSpan(5, 200_000)


class Course:
    """An origin, and what was reported of it."""

    def __init__(self) -> None:
        self.origin = MemoryOrigin()
        self.facts = self.origin.put("a", DATA)
        self.withdrawn: list[tuple[ObjectFacts, type[ObjectWithdrawn]]] = []
        self.reads = WatchedReads(self.origin, self._note)

    async def _note(self, facts: ObjectFacts, error: ObjectWithdrawn) -> None:
        self.withdrawn.append((facts, type(error)))

    def begun(self, how: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        read = self.reads.read if how == "read" else self.reads.once
        return read(self.facts, SPAN)


@pytest.mark.parametrize("how", ["read", "once"])
async def test_bytes_that_come_are_passed_on(how: str) -> None:
    course = Course()
    async with course.begun(how) as parts:
        assert b"".join([part async for part in parts]) == DATA[5:200_000]
    assert course.withdrawn == []


@pytest.mark.parametrize("how", ["read", "once"])
@pytest.mark.parametrize("kind", [ObjectChanged, ObjectNotFound])
async def test_a_version_that_is_withdrawn_is_reported(
    how: str, kind: type[ObjectWithdrawn]
) -> None:
    course = Course()
    if kind is ObjectChanged:
        course.origin.put("a", DATA)
    else:
        course.origin.delete("a")
    with pytest.raises(kind):
        async with course.begun(how):
            pass
    assert course.withdrawn == [(course.facts, kind)]


async def test_another_error_is_not() -> None:
    course = Course()
    course.origin.refusals = 1
    with pytest.raises(OriginUnreachable):
        async with course.begun("read"):
            pass
    assert course.withdrawn == []


async def test_a_version_that_is_withdrawn_during_a_read_is_reported() -> None:
    course = Course()

    async def parts() -> AsyncIterator[bytes]:
        yield DATA[:10]
        raise ObjectChanged

    async with aclosing(course.reads.go_on(course.facts, parts())) as watched:
        assert await anext(watched) == DATA[:10]
        with pytest.raises(ObjectChanged):
            await anext(watched)
    assert course.withdrawn == [(course.facts, ObjectChanged)]
