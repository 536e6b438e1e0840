"""Finds the cache entry that a version of an object is read from, or makes it."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from rangeserver.cache.cache import Cache
from rangeserver.cache.cache_key import cache_key_of
from rangeserver.cache.entry import Entry
from rangeserver.cache.reading_rights import ReadingRights
from rangeserver.cache.worth import Worth
from rangeserver.config import OriginConfig
from rangeserver.protocol.cache_control import may_be_stored
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

_SEEN_SECONDS = 0.01
"""How late it may be noticed that a file was removed, while it is read at a high rate."""


class VersionEntries:
    """The entries of one mount, for a reader with these ``rights``."""

    def __init__(self, cache: Cache, rights: ReadingRights, config: OriginConfig) -> None:
        self.cache = cache
        self.worth = Worth(cache)
        self._rights = rights
        self._key_prefix = cache_key_of(config.endpoint_url, config.bucket, config.prefix)
        self._use_version_ids = config.use_version_ids

    def cache_key(self, key: ObjectKey) -> str:
        """The key of an object in the cache."""
        return self._key_prefix + key

    async def find(self, key: ObjectKey) -> Entry | None:
        """The entry of an object, of whichever version."""
        return await self.cache.find(self.cache_key(key))

    def resident(self, facts: ObjectFacts) -> Entry | None:
        """The entry of just this version, if its file is open and this reader may read it."""
        entry = self.cache.find_open(self.cache_key(facts.key), seen_within=_SEEN_SECONDS)
        if entry is None or not is_of(entry, facts) or not self._rights.may_read(entry):
            return None
        return entry

    async def for_span(
        self, facts: ObjectFacts, span: ByteSpan, known: Entry | None
    ) -> Entry | None:
        """The entry to read a span of just this version from; ``None`` if the span is not worth
        caching, or cannot be cached. ``known`` is one that was found before.
        """
        usable = known is not None and is_of(known, facts) and known.is_current(_SEEN_SECONDS)
        entry = known if usable else await self.find(facts.key)
        if entry is not None and not is_of(entry, facts):
            return None
        if not await self.worth.of(self.cache_key(facts.key), facts.size, span, entry):
            return None
        if entry is not None and not entry.is_current(_SEEN_SECONDS):  # removed meanwhile
            entry = await self.find(facts.key)
        return await self._made(facts, entry)

    async def another(self, facts: ObjectFacts) -> Entry | None:
        """The entry of just this version, in place of one whose file was removed."""
        return await self._made(facts, await self.find(facts.key))

    async def _made(self, facts: ObjectFacts, entry: Entry | None) -> Entry | None:
        """``entry``, or a new one if there is none, which this reader has proved to be allowed."""
        if not facts.size or not may_be_stored(facts.cache_control):
            return None
        if entry is None:
            if self._use_version_ids and facts.age(time.monotonic()) > 0:
                # The origin may give a version whose object is gone, and the file may have been
                # removed for that. It is not noted as current now, only as known.
                facts = replace(facts, validated_at=-math.inf)
            entry = await self._rights.create(self.cache_key(facts.key), facts)
        if entry is None or not is_of(entry, facts):
            # Another version: who made it knows better than we do, or the next request to the
            # origin will show which is current.
            return None
        if not self._rights.may_read(entry):
            await self._rights.prove(entry, facts)
        return entry


def is_of(entry: Entry, facts: ObjectFacts) -> bool:
    """Whether the bytes of an entry are those of just this version."""
    return entry.etag == facts.etag and entry.layout.size == facts.size
