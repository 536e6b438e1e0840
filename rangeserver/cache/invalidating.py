"""Drops cached facts when a use of them shows that the origin no longer has their version."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

from rangeserver.errors import ObjectWithdrawn
from rangeserver.protocol.representation import ObjectFacts

T = TypeVar("T")


class Invalidating(AbstractAsyncContextManager[T]):
    """``inner``; calls ``drop`` with ``facts`` if it ends in ObjectWithdrawn.

    A class, as it is cheaper than a generator: each request with cached facts enters two.
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
