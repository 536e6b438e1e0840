"""A version of an object whose facts may be cached: they are dropped when a use of them shows that
the origin no longer has that version.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, TypeVar

from rangeserver.errors import ObjectWithdrawn
from rangeserver.origin.base import Objects, P, Representation
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts

T = TypeVar("T")


class FactsCache(Objects[P], Protocol[P]):
    """A cache of facts in front of other objects."""

    @property
    def inner(self) -> Objects[P]:
        """What it is in front of."""
        ...

    def forget(self, facts: ObjectFacts) -> None:
        """Drop the facts of this version."""
        ...


class KnownRepresentation(Representation[P]):
    """``inner``, whose facts are or may come to be in ``facts_cache``."""

    __slots__ = ("_facts_cache", "_inner")

    def __init__(self, inner: Representation[P], facts_cache: FactsCache[P]) -> None:
        begun, inner.begun = inner.begun, None
        super().__init__(inner.facts, facts_cache, begun, unvalidated=inner.unvalidated)
        self._inner = inner
        self._facts_cache = facts_cache

    def read(self, span: ByteSpan) -> AbstractAsyncContextManager[AsyncIterator[P]]:
        """The bytes of ``span``."""
        return _Invalidating(self._facts_cache.forget, self.facts, super().read(span))

    async def revalidate(self) -> None:
        """Ask the origin what is current, whatever is cached."""
        self._facts_cache.forget(self.facts)
        await super().revalidate()
        self._inner = self._facts_cache.inner.representation(self.facts)

    def _open(self, span: ByteSpan) -> AbstractAsyncContextManager[AsyncIterator[P]]:
        return self._inner.read(span)


class _Invalidating(AbstractAsyncContextManager[T]):
    """``inner``; calls ``drop`` with ``facts`` if it ends in ObjectWithdrawn.

    A class, as it is cheaper than a generator: each request with cached facts enters one.
    """

    __slots__ = ("_drop", "_facts", "_inner")

    def __init__(
        self,
        drop: Callable[[ObjectFacts], None],
        facts: ObjectFacts,
        inner: AbstractAsyncContextManager[T],
    ) -> None:
        self._drop = drop
        self._facts = facts
        self._inner = inner

    async def __aenter__(self) -> T:
        try:
            return await self._inner.__aenter__()
        except ObjectWithdrawn:
            self._drop(self._facts)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if isinstance(error, ObjectWithdrawn):
            self._drop(self._facts)
        return await self._inner.__aexit__(kind, error, trace)
