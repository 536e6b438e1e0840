"""An origin in memory that keeps every version it ever had, and fails when told to."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from rangeserver.errors import (
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginError,
    OriginUnreachable,
    RangeUnsatisfiable,
)
from rangeserver.origin.attempts import Retries
from rangeserver.origin.base import Begun, Representation
from rangeserver.origin.retrying import RetryPolicy
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

_LARGEST_PART = 90_000

ONCE = RetryPolicy(max_attempts=1, max_resumes=0, turn_seconds=0.0)
"""What fails is told at once."""


class MemoryOrigin:
    """Behaves like the stack below a cache: whatever goes wrong is raised, never told as bytes.

    ``refusals`` requests to come are not answered but with ``error``, and ``breaks`` bodies to
    come break. While held, no body goes beyond its first part.
    """

    def __init__(self) -> None:
        self.current: dict[str, ObjectFacts] = {}
        self.versions: dict[str, bytes] = {}
        self.requests: list[tuple[str, ByteSpan | None]] = []
        """Key and span, which is ``None`` where facts alone were asked for."""
        self.retries = Retries(ONCE)
        self.error: OriginError = OriginUnreachable()
        self.refusals = 0
        self.breaks = 0
        self.open_now = 0
        self.part_bytes: int | None = None
        self._go_on = asyncio.Event()
        self._go_on.set()
        self._random = random.Random(1)

    def put(self, key: str, data: bytes, **fields: Any) -> ObjectFacts:
        """Store a version; its tag is one that no other ever had."""
        etag = f'"{len(self.versions) + 1}"'
        self.versions[etag] = data
        facts = replace(ObjectFacts(ObjectKey(key), len(data), etag), **fields)
        self.current[key] = facts
        return facts

    def delete(self, key: str) -> None:
        self.current.pop(key, None)

    def hold(self) -> None:
        self._go_on.clear()

    def release(self) -> None:
        self._go_on.set()

    @property
    def bytes_asked(self) -> int:
        """Of all reads together."""
        return sum(span.length for _, span in self.requests if span is not None)

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        return await self._facts(key, None)

    @asynccontextmanager
    async def open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AsyncIterator[Representation[bytes]]:
        size = self.current[key].size if key in self.current else 0
        facts = await self._facts(key, wanted.span(size))
        span = wanted.span(facts.size)
        if facts.size and not span.length:
            raise RangeUnsatisfiable(size=facts.size)
        async with self._body(facts, span) as parts:
            yield Representation(facts, self, Begun(span, parts))

    def begin(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AbstractAsyncContextManager[Representation[bytes]]:
        return self.open(key, wanted)

    async def resumed(
        self, facts: ObjectFacts, begun: Begun[bytes], stack: AsyncExitStack
    ) -> AsyncGenerator[bytes]:
        del facts, stack
        async for part in begun.parts:
            yield part

    def once(
        self, facts: ObjectFacts, span: ByteSpan, after: OriginError | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        del after
        return self.read(facts, span)

    @asynccontextmanager
    async def read(self, facts: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[bytes]]:
        now = await self._facts(facts.key, span)
        if now.etag != facts.etag:
            raise ObjectChanged
        async with self._body(facts, span) as parts:
            yield parts

    async def _facts(self, key: ObjectKey, span: ByteSpan | None) -> ObjectFacts:
        self.requests.append((key, span))
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise type(self.error)("refused")
        if key not in self.current:
            raise ObjectNotFound
        return replace(self.current[key], validated_at=time.monotonic())

    @asynccontextmanager
    async def _body(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        breaks_at: int | None = None
        if self.breaks:
            self.breaks -= 1
            breaks_at = self._random.randrange(span.start, span.stop + 1)
        async with aclosing(self._parts(facts, span, breaks_at)) as parts:
            self.open_now += 1
            try:
                yield parts
            finally:
                self.open_now -= 1

    async def _parts(
        self, facts: ObjectFacts, span: ByteSpan, breaks_at: int | None
    ) -> AsyncGenerator[bytes]:
        data, position = self.versions[facts.etag], span.start
        end = span.stop if breaks_at is None else breaks_at
        while position < end:
            await asyncio.sleep(0)
            length = self.part_bytes or self._random.randint(1, _LARGEST_PART)
            stop = min(end, position + length)
            yield data[position:stop]
            position = stop
            await self._go_on.wait()
        if breaks_at is not None:
            msg = "broken"
            raise OriginBodyError(msg)
