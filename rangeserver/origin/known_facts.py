"""Facts are believed for a moment, and asked for once by however many want them at a time.

They may be a little out of date, and no byte is wrong for it: every read names the version that
its facts are of, so an object that was replaced is noticed by the first read of it. Nor is a
condition or range called false because of them (:class:`~rangeserver.origin.base.Opened`).

Of those who ask for the same object at the same time, one leads: its request brings the facts
for all, and for itself perhaps bytes as well. A leader that leaves is followed by the next.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import astuple

from rangeserver.errors import ObjectChanged, ObjectNotFound, OriginError, RangeUnsatisfiable
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import Opened, Origin, Part
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

MAX_OBJECTS = 4096
MAX_FACTS_BYTES = 4096
"""Objects of which facts are kept, and how large these may be: 16 MiB in all."""


class KnownFacts:
    """Keeps the facts that ``inner`` tells for ``ttl_seconds``; ``clock`` is monotonic."""

    def __init__(
        self,
        inner: Origin,
        ttl_seconds: float,
        *,
        clock: Callable[[], float],
        metrics: OriginMetrics | None = None,
    ) -> None:
        self.inner = inner
        self._ttl = ttl_seconds
        self._clock = clock
        self._metrics = metrics or OriginMetrics()
        self._known: OrderedDict[ObjectKey, tuple[ObjectFacts, float]] = OrderedDict()
        self._asked: dict[ObjectKey, _Question] = {}

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of a version that was current not longer ago than the time to live."""
        known = self._believed(key)
        if known is None:
            known, _ = await self._told_by_others(key)
        if known is not None:
            return known
        with self._leading(key) as question:
            facts = await self.inner.describe(key)
            question.told(facts)
        return facts

    @asynccontextmanager
    async def open(self, key: ObjectKey, wanted: AskedRange) -> AsyncIterator[Opened]:
        """Facts alone if they are known, else facts and bytes."""
        believed = self._believed(key)
        if believed is not None:
            with self._forgetting(believed):
                yield Opened(believed, believed=True)
            return
        known, facts_only = await self._told_by_others(key)
        if known is not None:
            yield Opened(known)
        elif facts_only:
            yield Opened(await self.describe(key))
        else:
            with self._leading(key) as question:
                async with self.inner.open(key, wanted) as opened:
                    question.told(opened.facts)
                    with self._forgetting(opened.facts):
                        yield opened

    @asynccontextmanager
    async def read(self, facts: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[Part]]:
        """The bytes of ``span``; a version that is gone is forgotten."""
        with self._forgetting(facts):
            async with self.inner.read(facts, span) as parts:
                yield parts

    def _believed(self, key: ObjectKey) -> ObjectFacts | None:
        known = self._known.get(key)
        if known is None or known[1] <= self._clock():
            return None
        self._known.move_to_end(key)
        self._metrics.facts("known")
        return known[0]

    async def _told_by_others(self, key: ObjectKey) -> tuple[ObjectFacts | None, bool]:
        """The facts, if someone is asking; if not, whether to ask for nothing but them: an answer
        that brought none left many waiting.

        Raises what a request for them ended in.
        """
        facts_only = False
        while (question := self._asked.get(key)) is not None:
            told = await question.answer()
            if isinstance(told, RangeUnsatisfiable):
                facts_only = True
            elif isinstance(told, OriginError):
                self._metrics.facts("shared")
                raise type(told)(told.detail, headers=told.headers) from told
            elif told is not None:
                self._metrics.facts("shared")
                return told, False
            believed = self._believed(key)
            if believed is not None:  # learned meanwhile by one who did not wait
                return believed, False
        return None, facts_only

    @contextmanager
    def _leading(self, key: ObjectKey) -> Iterator[_Question]:
        """Ask on behalf of all; an end without facts, an error or a departure, is told too."""
        self._metrics.facts("asked")
        question = self._asked[key] = _Question(lambda facts: self._learned(key, facts))
        try:
            yield question
        except OriginError as error:
            question.failed(error)
            raise
        finally:
            question.given_up()

    @contextmanager
    def _forgetting(self, facts: ObjectFacts) -> Iterator[None]:
        """Believe ``facts`` no longer, if reading shows that their version is gone."""
        try:
            yield
        except (ObjectChanged, ObjectNotFound):
            known = self._known.get(facts.key)
            if known is not None and known[0].etag == facts.etag:
                del self._known[facts.key]
            raise

    def _learned(self, key: ObjectKey, facts: ObjectFacts | None) -> None:
        del self._asked[key]
        if facts is None or not self._ttl or _size(facts) > MAX_FACTS_BYTES:
            return
        self._known[key] = (facts, self._clock() + self._ttl)
        self._known.move_to_end(key)
        if len(self._known) > MAX_OBJECTS:
            self._known.popitem(last=False)


def _size(facts: ObjectFacts) -> int:
    return sum(len(value) for value in astuple(facts) if isinstance(value, str))


class _Question:
    """One request for facts, and all who wait for its answer."""

    def __init__(self, settled: Callable[[ObjectFacts | None], None]) -> None:
        self._settled = settled
        self._done: asyncio.Future[ObjectFacts | OriginError | None]
        self._done = asyncio.get_running_loop().create_future()

    async def answer(self) -> ObjectFacts | OriginError | None:
        """What came of it; ``None`` if whoever asked has left."""
        return await asyncio.shield(self._done)

    def told(self, facts: ObjectFacts) -> None:
        """The facts have come."""
        self._settle(facts)

    def failed(self, error: OriginError) -> None:
        """The request failed; nothing, if it had brought facts before."""
        self._settle(error)

    def given_up(self) -> None:
        """Whoever asked goes on to other things; nothing, if it had an answer before."""
        self._settle(None)

    def _settle(self, outcome: ObjectFacts | OriginError | None) -> None:
        if not self._done.done():
            self._done.set_result(outcome)
            self._settled(outcome if isinstance(outcome, ObjectFacts) else None)
