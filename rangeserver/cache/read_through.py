"""A read of one version: from the cache, or past it if it cannot be cached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType

from rangeserver.cache.cache import Cache
from rangeserver.cache.cached_read import CachedRead
from rangeserver.cache.entry import Entry
from rangeserver.origin.attempts import AttemptedReads
from rangeserver.origin.base import Part
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts


class ReadThrough(AbstractAsyncContextManager[AsyncIterator[Part]]):
    """The bytes of ``span``. ``find`` gives the entry to read them from, if there is or can be one
    and the span is worth it; ``find_again`` another of the same version.
    """

    __slots__ = ("_cache", "_cached", "_facts", "_find", "_find_again", "_origin", "_past", "_span")

    def __init__(
        self,
        cache: Cache,
        origin: AttemptedReads,
        facts: ObjectFacts,
        span: ByteSpan,
        *,
        find: Callable[[ByteSpan], Awaitable[Entry | None]],
        find_again: Callable[[], Awaitable[Entry | None]],
    ) -> None:
        self._cache = cache
        self._origin = origin
        self._find = find
        self._find_again = find_again
        self._facts = facts
        self._span = span
        self._cached: CachedRead | None = None
        self._past: AbstractAsyncContextManager[AsyncIterator[bytes]] | None = None

    async def __aenter__(self) -> AsyncIterator[Part]:
        entry = await self._find(self._span)
        if entry is None:
            self._cache.metrics.bypassed()
            past = self._uncached(self._span)
            parts = await past.__aenter__()
            self._past = past
            return parts
        self._cached = CachedRead(
            *(self._cache, entry, self._span),
            *(partial(self._origin.once, self._facts), self._origin.retries),
            entry_again=self._find_again,
            uncached=self._uncached,
        )
        return self._cached

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        # Break the cycle, so that the file is closed now and not at the next garbage collection.
        cached, self._cached = self._cached, None
        if cached is not None:
            await cached.leave()
        return await self._past.__aexit__(kind, error, trace) if self._past is not None else None

    def _uncached(self, span: ByteSpan) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._origin.read(self._facts, span)
