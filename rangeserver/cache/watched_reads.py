"""Reads of the origin that report when it has withdrawn a version.

That also counts for what is cached when no response waits for the bytes any more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from rangeserver.errors import ObjectWithdrawn, OriginError
from rangeserver.origin.attempts import AttemptedReads
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts


class WatchedReads:
    """Reads of ``origin``; calls ``withdrawn`` for a version that it refuses to give."""

    def __init__(
        self,
        origin: AttemptedReads,
        withdrawn: Callable[[ObjectFacts, ObjectWithdrawn], Awaitable[None]],
    ) -> None:
        self.retries = origin.retries
        self._origin = origin
        self._withdrawn = withdrawn

    @asynccontextmanager
    async def read(self, facts: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``span`` of exactly the version that ``facts`` describes."""
        async with self._watching(facts), self._origin.read(facts, span) as parts:
            yield parts

    @asynccontextmanager
    async def once(
        self, facts: ObjectFacts, span: ByteSpan, after: OriginError | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The same from a single request."""
        async with self._watching(facts), self._origin.once(facts, span, after) as parts:
            yield parts

    async def go_on(self, facts: ObjectFacts, parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The rest of a read that has begun."""
        async with self._watching(facts):
            async for part in parts:
                yield part

    @asynccontextmanager
    async def _watching(self, facts: ObjectFacts) -> AsyncIterator[None]:
        try:
            yield
        except ObjectWithdrawn as error:
            await self._withdrawn(facts, error)
            raise
