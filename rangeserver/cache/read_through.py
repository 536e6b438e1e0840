"""A read of one version: from the cache, or past it where it cannot be there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from rangeserver.cache.cache import Cache
from rangeserver.cache.entry import Entry
from rangeserver.cache.reading import CachedRead
from rangeserver.errors import ObjectWithdrawn
from rangeserver.origin.base import Origin, Part, current_report
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts


class ReadThrough(AbstractAsyncContextManager[AsyncIterator[Part]]):
    """The bytes of ``span``. ``find`` tells the entry of a version, if there is or can be one.

    When the version turns out to be gone, or not for us, ``withdrawn`` is told of it.
    """

    __slots__ = (
        *("_cache", "_cached", "_entry", "_facts", "_find", "_origin", "_past", "_span"),
        "_withdrawn",
    )

    def __init__(
        self,
        cache: Cache,
        origin: Origin[bytes],
        find: Callable[[ObjectFacts], Awaitable[Entry | None]],
        withdrawn: Callable[[Entry, ObjectWithdrawn], Awaitable[None]],
        facts: ObjectFacts,
        span: ByteSpan,
    ) -> None:
        self._cache = cache
        self._origin = origin
        self._find = find
        self._withdrawn = withdrawn
        self._facts = facts
        self._span = span
        self._entry: Entry | None = None
        self._cached: CachedRead | None = None
        self._past: AbstractAsyncContextManager[AsyncIterator[bytes]] | None = None

    async def __aenter__(self) -> AsyncIterator[Part]:
        entry = await self._find_again()
        if entry is None:
            self._cache.metrics.bypassed()
            past = self._source(self._span)
            parts = await past.__aenter__()
            self._past = past
            return parts
        self._entry = entry
        self._cached = CachedRead(
            *(self._cache, entry, self._span, self._source, current_report()),
            entry_again=self._find_again,
        )
        return self._cached

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if self._past is not None:
            return await self._past.__aexit__(kind, error, trace)
        # It refers to us: left in place, both would stay until the collector comes, and the file.
        cached, self._cached = self._cached, None
        entry, self._entry = self._entry, None
        if cached is not None:
            await cached.leave()
        if entry is not None and isinstance(error, ObjectWithdrawn):
            await self._withdrawn(entry, error)
        return None

    def _source(self, span: ByteSpan) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._origin.read(self._facts, span)

    async def _find_again(self) -> Entry | None:
        return await self._find(self._facts)
