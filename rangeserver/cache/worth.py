"""Whether a read is worth fetching whole blocks: large reads are, and some small ones."""

from __future__ import annotations

from rangeserver.cache.admission import is_small
from rangeserver.cache.blocks import Layout
from rangeserver.cache.cache import Cache
from rangeserver.cache.entry import Entry
from rangeserver.protocol.ranges import AskedRange, ByteSpan


class Worth:
    """Judges reads of objects in ``cache`` by what is there."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._admits = cache.admission.admits
        self._block_bytes = int(cache.config.block_bytes)

    def of_unknown(self, cache_key: str, wanted: AskedRange, around: AskedRange) -> bool:
        """For an object of which nothing is cached, not even its size: whether to fetch the range
        ``around`` what is wanted.
        """
        if wanted.last is None:
            return True
        if wanted.first is None:
            start, stop = -wanted.last, 0
        else:
            start, stop = wanted.first, wanted.last + 1
        fetched = (around.last or 0) + 1 - (around.first or 0)
        if not is_small(stop - start, fetched):
            return True
        return self._admits(cache_key, start, stop, fetched=fetched, expected=not stop)

    async def of(self, cache_key: str, size: int, span: ByteSpan, entry: Entry | None) -> bool:
        """For an object of this size with this entry. ``True`` if nothing has to be fetched."""
        layout = Layout(size, self._block_bytes) if entry is None else entry.layout
        fetched = layout.span(*layout.blocks_of(span)).length
        if not is_small(span.length, fetched):
            return True
        expected = span.stop == size
        if entry is not None:
            if await self._cache.has(entry, span):
                return True
            before = max(span.start - 1, 0) // layout.block_bytes
            expected = expected or entry.is_coming(before, before + 1)
        return self._admits(cache_key, span.start, span.stop, fetched=fetched, expected=expected)
