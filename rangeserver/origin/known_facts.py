"""Facts are believed for a moment, and asked for once by however many want them at a time.

They may be a little out of date, and no byte is wrong for it: every read names the version that
its facts are of, so an object that was replaced is noticed by the first read of it. Nor is a
condition or range called false because of them (:class:`~rangeserver.origin.base.Opened`).

Those who ask for the same object at the same time share one lookup
(:mod:`rangeserver.origin.lookups`): its answer brings the facts for all, and for the one who began
it perhaps bytes as well.

How long that is, :mod:`rangeserver.protocol.freshness` decides. Facts whose time is over may be
believed a little longer, while they are asked for in the background (stale-while-revalidate, RFC
5861 §3), but not once that brings to light that the object is gone, changed or not for us. That a
key is missing is believed for a moment as well; no other refusal is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import astuple, dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from rangeserver.errors import (
    ObjectNotFound,
    ObjectWithdrawn,
    OriginError,
    RangeUnsatisfiable,
)
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import Held, Holding, Opened, Origin, P, ReadReport
from rangeserver.origin.lookups import Asking, Lookup, Outcome
from rangeserver.protocol.freshness import BeliefRules, belief
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.sparing import sparing

T = TypeVar("T")

log = sparing(logging.getLogger(__name__))

MAX_OBJECTS = 4096
MAX_FACTS_BYTES = 4096
"""Objects of which facts are kept, and how large these may be: 16 MiB in all."""


class KnownFacts(Generic[P]):
    """Keeps the facts that ``inner`` tells for as long as ``rules`` allow; ``clock`` is monotonic,
    ``wall_clock`` tells the seconds since the epoch.

    That a key is missing is kept for ``missing_seconds``. ``holding`` is what has bytes at hand, if
    anything has. When what ``last_purge`` returns changes, all that was told before is forgotten.
    """

    def __init__(
        self,
        inner: Origin[P],
        rules: BeliefRules,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
        metrics: OriginMetrics | None = None,
        missing_seconds: float = 0.0,
        holding: Holding | None = None,
        last_purge: Callable[[], object] = bool,
    ) -> None:
        self.inner = inner
        self._holding = holding
        self._rules = rules
        self._missing_seconds = missing_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._metrics = metrics or OriginMetrics()
        self._known: OrderedDict[ObjectKey, _Known] = OrderedDict()
        self._missing: OrderedDict[ObjectKey, tuple[str, float]] = OrderedDict()
        self._asked: dict[ObjectKey, Lookup[P]] = {}
        self._outdated: set[Lookup[P]] = set()
        """Those that began before the last purge."""
        self._last_purge = last_purge
        self._purge = last_purge()

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of a version that was current not longer ago than the time to live."""
        known = self._believed(key)
        if known is not None:
            return known
        told, _ = await self._told_by_others(key)
        if told is not None:
            return told.facts
        async with self._look_up(key, lambda: self._described(key)).opened() as opened:
            return opened.facts

    def open(self, key: ObjectKey, wanted: AskedRange) -> AbstractAsyncContextManager[Opened[P]]:
        """Facts alone if they are known, else facts and bytes."""
        believed = self._believed(key)
        if believed is None:
            return self._ask(key, wanted)
        opened: Opened[P] = Opened(believed, believed=True)
        return _Forgetting(self, believed, nullcontext(opened))

    @asynccontextmanager
    async def _ask(self, key: ObjectKey, wanted: AskedRange) -> AsyncIterator[Opened[P]]:
        told, facts_only = await self._told_by_others(key)
        if told is not None:
            async with _Forgetting(self, told.facts, nullcontext(told)):
                yield told
        elif facts_only:
            yield Opened(await self.describe(key))
        else:
            lookup = self._look_up(key, lambda: self.inner.open(key, wanted))
            async with (
                lookup.opened() as opened,
                _Forgetting(self, opened.facts, nullcontext(opened)),
            ):
                yield opened

    def read(
        self, facts: ObjectFacts, span: ByteSpan
    ) -> AbstractAsyncContextManager[AsyncIterator[P]]:
        """The bytes of ``span``; a version that is gone is forgotten."""
        return _Forgetting(self, facts, self.inner.read(facts, span))

    def known(self, key: ObjectKey) -> ObjectFacts | None:
        """What is believed of a key, if its time is not over."""
        self._heed_purges()
        known = self._known.get(key)
        return known.facts if known is not None and known.fresh_until > self._clock() else None

    def held(self, facts: ObjectFacts, span: ByteSpan, report: ReadReport) -> Held | None:
        """Bytes of an object whose facts are known, if all of them are at hand."""
        held = self._holding.held(facts, span, report) if self._holding is not None else None
        if held is not None:
            self.told(facts)
        return held

    def told(self, facts: ObjectFacts) -> None:
        """An answer was made of facts that are known."""
        self._known.move_to_end(facts.key)
        self._metrics.facts("known")

    def forget(self, facts: ObjectFacts) -> None:
        """Believe no longer that a version is current."""
        known = self._known.get(facts.key)
        if known is not None and known.facts.etag == facts.etag:
            del self._known[facts.key]

    async def close(self) -> None:
        """Stop asking."""
        tasks = [lookup.task for lookup in self._asked.values()]
        await asyncio.sleep(0)  # one that has not had its first turn would settle nothing
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _believed(self, key: ObjectKey) -> ObjectFacts | None:
        """What is believed of a key, if anything is. Raises ObjectNotFound if it is believed to be
        missing.
        """
        self._heed_purges()
        known = self._known.get(key)
        now = self._clock()
        if known is None:
            self._believe_missing(key, now)
            return None
        if known.fresh_until <= now:
            if known.told_until <= now:
                return None
            self._refresh(key)
        self._known.move_to_end(key)
        self._metrics.facts("known")
        return known.facts

    def _heed_purges(self) -> None:
        """Forget what was told, and what will be to those who asked, before the last purge."""
        purge = self._last_purge()
        if purge != self._purge:
            self._purge = purge
            self._known.clear()
            self._missing.clear()
            self._outdated.update(self._asked.values())

    def _believe_missing(self, key: ObjectKey, now: float) -> None:
        missing = self._missing.get(key)
        if missing is None:
            return
        detail, until = missing
        if until > now:
            self._metrics.facts("known")
            raise ObjectNotFound(detail)
        del self._missing[key]

    def _refresh(self, key: ObjectKey) -> None:
        """Ask in the background, unless somebody is asking."""
        if key not in self._asked:
            self._look_up(key, lambda: self._described(key), in_background=True)

    def _look_up(
        self, key: ObjectKey, asking: Asking[P], *, in_background: bool = False
    ) -> Lookup[P]:
        """Ask on behalf of all."""
        self._metrics.facts("asked")
        lookup = self._asked[key] = Lookup(
            asking, lambda outcome: self._learned(key, outcome), in_background=in_background
        )
        return lookup

    @asynccontextmanager
    async def _described(self, key: ObjectKey) -> AsyncIterator[Opened[P]]:
        yield Opened(await self.inner.describe(key))

    async def _told_by_others(self, key: ObjectKey) -> tuple[Opened[P] | None, bool]:
        """The facts, if someone is asking; if not, whether to ask for nothing but them: an answer
        that brought none left many waiting.

        Raises what a request for them ended in.
        """
        facts_only = False
        while (lookup := self._asked.get(key)) is not None:
            outdated = lookup in self._outdated
            told = await lookup.outcome()
            if outdated:
                continue  # asked before something was purged, and told by then perhaps
            if isinstance(told, RangeUnsatisfiable):
                facts_only = True
            elif isinstance(told, OriginError):
                self._metrics.facts("shared")
                raise told.again()
            elif told is not None:
                self._metrics.facts("shared")
                return Opened(told.facts, believed=told.believed), False
            believed = self._believed(key)
            if believed is not None:  # learned meanwhile by one who did not wait
                return Opened(believed, believed=True), False
        return None, facts_only

    def _learned(self, key: ObjectKey, outcome: Outcome[P]) -> None:
        self._heed_purges()
        lookup = self._asked.pop(key)
        now = self._clock()
        outdated = lookup in self._outdated
        self._outdated.discard(lookup)
        if isinstance(outcome, OriginError) and lookup.in_background:
            log.info("the facts of %s could not be renewed: %s", key, outcome)
        if isinstance(outcome, ObjectWithdrawn):
            self._known.pop(key, None)
            if isinstance(outcome, ObjectNotFound) and self._missing_seconds and not outdated:
                _keep(self._missing, key, (outcome.detail, now + self._missing_seconds))
        elif isinstance(outcome, Opened) and not outdated:
            self._missing.pop(key, None)
            known = self._known_from(outcome.facts, now)
            if known.told_until > now and _size(known.facts) <= MAX_FACTS_BYTES:
                _keep(self._known, key, known)
            else:
                self._known.pop(key, None)

    def _known_from(self, told: ObjectFacts, now: float) -> _Known:
        """For how long facts are believed which were the answer to a question just now."""
        age = max(now - told.told_at, 0.0)
        may = belief(told, self._rules, date=max(self._wall_clock() - age, 0.0))
        if age < may.while_asking:
            return _Known(told, now - age + may.fresh, now - age + may.while_asking)
        # Their time was over when they came: the origin cannot be asked, or has no time to give.
        # Whoever asks next need not find that out again at once.
        last = now - age + may.if_error
        return _Known(told, min(now + may.fresh, last), min(now + may.while_asking, last))


@dataclass(frozen=True, slots=True)
class _Known:
    """Facts, until when they are fresh, and until when they are told while they are asked for."""

    facts: ObjectFacts
    fresh_until: float
    told_until: float


class _Forgetting(AbstractAsyncContextManager[T]):
    """``inner``, but that ``facts`` are forgotten if their version turns out to be gone.

    A class, for every request of known objects passes two of them.
    """

    __slots__ = ("_facts", "_inner", "_known")

    def __init__(
        self, known: KnownFacts[Any], facts: ObjectFacts, inner: AbstractAsyncContextManager[T]
    ) -> None:
        self._known = known
        self._facts = facts
        self._inner = inner

    async def __aenter__(self) -> T:
        try:
            return await self._inner.__aenter__()
        except ObjectWithdrawn:
            self._known.forget(self._facts)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if isinstance(error, ObjectWithdrawn):
            self._known.forget(self._facts)
        return await self._inner.__aexit__(kind, error, trace)


def _keep(kept: OrderedDict[ObjectKey, T], key: ObjectKey, value: T) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MAX_OBJECTS:
        kept.popitem(last=False)


def _size(facts: ObjectFacts) -> int:
    return sum(len(value) for value in astuple(facts) if isinstance(value, str))
