"""The metadata cache: facts of objects are kept in memory for a short time, and looked up once for
all requests that need them at the same time.

Cached facts may be out of date, but no wrong byte is sent because of them: every read names the
version of its facts, so the first read of a replaced object fails and the facts are dropped. A
request is not refused because of cached facts either: they are unvalidated
(:class:`~rangeserver.origin.base.Representation`).

Lookups are single-flight (:mod:`rangeserver.cache.lookups`): all requests get the facts, and the
one that began the lookup may get bytes as well.

:mod:`rangeserver.protocol.freshness` decides how long facts may be used. Stale facts may be used a
little longer while they are revalidated in the background (stale-while-revalidate, RFC 5861 §3),
until that shows that the object is gone, changed or forbidden. A missing key is cached for a short
time as well; other refusals are not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Generic

from rangeserver import lru
from rangeserver.cache.known_representation import KnownRepresentation
from rangeserver.cache.lookups import Asking, Lookup, Outcome
from rangeserver.cache.metadata_entry import MetadataEntry, entry_of
from rangeserver.errors import (
    ObjectNotFound,
    ObjectWithdrawn,
    OriginError,
    RangeUnsatisfiable,
)
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import (
    Objects,
    P,
    ReadReport,
    Representation,
    ResidentRead,
    ResidentReads,
)
from rangeserver.protocol.freshness import FreshnessRules
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

MAX_OBJECTS = 4096
MAX_FACTS_BYTES = 4096
"""Objects whose facts are kept, and the most bytes of each: 16 MiB in all."""


class MetadataCache(Generic[P]):
    """Caches the facts that ``inner`` returns for as long as ``rules`` allow; ``clock`` is
    monotonic, ``wall_clock`` returns seconds since the epoch.

    A missing key is cached for ``missing_seconds``. ``resident_reads`` is the cache of bytes, if
    there is one. When the value of ``last_purge`` changes, every earlier entry is dropped.
    """

    def __init__(
        self,
        inner: Objects[P],
        rules: FreshnessRules,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
        metrics: OriginMetrics | None = None,
        missing_seconds: float = 0.0,
        resident_reads: ResidentReads | None = None,
        last_purge: Callable[[], object] = bool,
    ) -> None:
        self.inner = inner
        self._resident_reads = resident_reads
        self._rules = rules
        self._missing_seconds = missing_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._metrics = metrics or OriginMetrics()
        self._entries: OrderedDict[ObjectKey, MetadataEntry] = OrderedDict()
        self._missing: OrderedDict[ObjectKey, tuple[str, float]] = OrderedDict()
        self._in_flight: dict[ObjectKey, Lookup[P]] = {}
        self._outdated: set[Lookup[P]] = set()
        """Lookups that began before the last purge."""
        self._last_purge = last_purge
        self._purge = last_purge()

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of a version that was current at most the time to live ago."""
        cached = self._cached(key)
        if cached is not None:
            return cached
        shared, _ = await self._shared(key)
        if shared is not None:
            return shared.facts
        async with self._look_up(key, lambda: self._described(key)).opened() as opened:
            return opened.facts

    def open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AbstractAsyncContextManager[Representation[P]]:
        """Facts alone if they are cached, else facts and bytes."""
        cached = self._cached(key)
        if cached is None:
            return self._look_up_and_open(key, wanted)
        return nullcontext(self.representation(cached, unvalidated=True))

    @asynccontextmanager
    async def _look_up_and_open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AsyncIterator[Representation[P]]:
        shared, facts_only = await self._shared(key)
        if shared is not None:
            yield shared
        elif facts_only:
            yield self.representation(await self.describe(key))
        else:
            lookup = self._look_up(key, lambda: self.inner.open(key, wanted))
            async with lookup.opened() as opened:
                yield KnownRepresentation(opened, self)

    def representation(self, facts: ObjectFacts, *, unvalidated: bool = False) -> Representation[P]:
        """The version that these facts describe."""
        inner = self.inner.representation(facts, unvalidated=unvalidated)
        return KnownRepresentation(inner, self)

    def read(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AbstractAsyncContextManager[AsyncIterator[P]]:
        """The bytes of ``span``; facts of a version that is gone are dropped."""
        return self.representation(facts).read(span)

    def fresh_facts(self, key: ObjectKey) -> ObjectFacts | None:
        """The cached facts of a key, if they are fresh."""
        self._drop_purged()
        entry = self._entries.get(key)
        return entry.facts if entry is not None and entry.is_fresh(self._clock()) else None

    def resident(
        self, facts: ObjectFacts, span: ByteSpan, report: ReadReport
    ) -> ResidentRead | None:
        """The bytes of ``span``, if all of them are cached, and the first in memory."""
        if self._resident_reads is None:
            return None
        resident = self._resident_reads.resident(facts, span, report)
        if resident is not None:
            self.count_use(facts)
        return resident

    def count_use(self, facts: ObjectFacts) -> None:
        """Count a response that was made from cached facts."""
        self._entries.move_to_end(facts.key)
        self._metrics.facts("known")

    def forget(self, facts: ObjectFacts) -> None:
        """Drop the facts of this version."""
        entry = self._entries.get(facts.key)
        if entry is not None and entry.facts.etag == facts.etag:
            del self._entries[facts.key]

    async def close(self) -> None:
        """Cancel all lookups, and wait until they have ended."""
        tasks = [lookup.task for lookup in self._in_flight.values()]
        await asyncio.sleep(0)  # a task cancelled before its first step would settle nothing
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cached(self, key: ObjectKey) -> ObjectFacts | None:
        """Cached facts that are fresh, or stale and now revalidated in the background. Raises
        ObjectNotFound if it is cached that the key is missing.
        """
        self._drop_purged()
        entry = self._entries.get(key)
        now = self._clock()
        if entry is None:
            self._raise_if_missing(key, now)
            return None
        if not entry.is_fresh(now):
            if not entry.is_usable(now):
                return None
            self._revalidate(key)
        self._entries.move_to_end(key)
        self._metrics.facts("known")
        return entry.facts

    def _drop_purged(self) -> None:
        """Drop entries that are older than the last purge, and mark the lookups that are."""
        purge = self._last_purge()
        if purge != self._purge:
            self._purge = purge
            self._entries.clear()
            self._missing.clear()
            self._outdated.update(self._in_flight.values())

    def _raise_if_missing(self, key: ObjectKey, now: float) -> None:
        missing = self._missing.get(key)
        if missing is None:
            return
        detail, until = missing
        if until > now:
            self._metrics.facts("known")
            raise ObjectNotFound(detail)
        del self._missing[key]

    def _revalidate(self, key: ObjectKey) -> None:
        """Look up the facts in the background, unless a lookup is running."""
        if key not in self._in_flight:
            self._look_up(key, lambda: self._described(key), in_background=True)

    def _look_up(
        self, key: ObjectKey, asking: Asking[P], *, in_background: bool = False
    ) -> Lookup[P]:
        """Begin a lookup for all requests that need these facts."""
        self._metrics.facts("asked")
        lookup = self._in_flight[key] = Lookup(
            asking, lambda outcome: self._store(key, outcome), in_background=in_background
        )
        return lookup

    @asynccontextmanager
    async def _described(self, key: ObjectKey) -> AsyncIterator[Representation[P]]:
        yield self.inner.representation(await self.inner.describe(key))

    async def _shared(self, key: ObjectKey) -> tuple[Representation[P] | None, bool]:
        """The facts from a lookup that is running, if there is one; if not, whether to ask for
        facts alone, as many may still wait after a lookup whose range was unsatisfiable.

        Raises the error that the lookup ended with.
        """
        facts_only = False
        while (lookup := self._in_flight.get(key)) is not None:
            outdated = lookup in self._outdated
            outcome = await lookup.outcome()
            if outdated:
                continue  # it began before a purge, and its facts may be from before it
            if isinstance(outcome, RangeUnsatisfiable):
                facts_only = True
            elif isinstance(outcome, OriginError):
                self._metrics.facts("shared")
                raise outcome.again()
            elif outcome is not None:
                self._metrics.facts("shared")
                unvalidated = outcome.unvalidated
                return self.representation(outcome.facts, unvalidated=unvalidated), False
            cached = self._cached(key)
            if cached is not None:  # a request that did not wait has found them meanwhile
                return self.representation(cached, unvalidated=True), False
        return None, facts_only

    def _store(self, key: ObjectKey, outcome: Outcome[P]) -> None:
        self._drop_purged()
        lookup = self._in_flight.pop(key)
        now = self._clock()
        outdated = lookup in self._outdated
        self._outdated.discard(lookup)
        if isinstance(outcome, OriginError) and lookup.in_background:
            log.info("the facts of %s could not be renewed: %s", key, outcome)
        if isinstance(outcome, ObjectWithdrawn):
            self._entries.pop(key, None)
            if isinstance(outcome, ObjectNotFound) and self._missing_seconds and not outdated:
                until = now + self._missing_seconds
                lru.put(self._missing, key, (outcome.detail, until), max_entries=MAX_OBJECTS)
        elif isinstance(outcome, Representation) and not outdated:
            self._missing.pop(key, None)
            entry = entry_of(outcome.facts, self._rules, now=now, wall_now=self._wall_clock())
            if entry.is_usable(now) and entry.size_bytes <= MAX_FACTS_BYTES:
                lru.put(self._entries, key, entry, max_entries=MAX_OBJECTS)
            else:
                self._entries.pop(key, None)
