"""A version of an object, read from the cache as far as it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from rangeserver.cache.entry import Entry
from rangeserver.cache.read_through import ReadThrough
from rangeserver.cache.version_entries import VersionEntries
from rangeserver.cache.watched_reads import WatchedReads
from rangeserver.origin.base import Begun, Origin, Part, Representation
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts


class CachedRepresentation(Representation[Part]):
    """Keeps the entry that was found when it was opened, or at the first read, for all reads.

    What is not in the cache comes from ``reads``.
    """

    __slots__ = ("_entries", "_entry", "_reads")

    def __init__(
        self,
        facts: ObjectFacts,
        origin: Origin[Part],
        entries: VersionEntries,
        reads: WatchedReads,
        *,
        entry: Entry | None = None,
        begun: Begun[Part] | None = None,
        unvalidated: bool = False,
    ) -> None:
        super().__init__(facts, origin, begun, unvalidated=unvalidated)
        self._entries = entries
        self._reads = reads
        self._entry = entry

    def _open(self, span: ByteSpan) -> AbstractAsyncContextManager[AsyncIterator[Part]]:
        return ReadThrough(
            *(self._entries.cache, self._reads, self.facts, span),
            find=self._find,
            find_again=self._find_again,
        )

    async def _find(self, span: ByteSpan) -> Entry | None:
        self._entry = await self._entries.for_span(self.facts, span, self._entry)
        return self._entry

    async def _find_again(self) -> Entry | None:
        self._entry = await self._entries.another(self.facts)
        return self._entry
