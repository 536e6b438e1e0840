"""An origin that does not give up at once: requests that fail are repeated, and bodies that break
are continued at the next byte.

Retries of SDKs end where a body begins. Here a body that ends early, breaks, stalls or drips is
closed, and the rest of the span is asked for anew, of the same version (the inner origin pins
every read by If-Match). Whoever reads sees one body, or an error when the budget of its response
is spent (:mod:`rangeserver.origin.attempts`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    nullcontext,
)
from typing import TypeVar

from rangeserver.errors import OriginError, OriginRecalled, OriginTimeout
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.attempts import Retries
from rangeserver.origin.base import Begun, Origin, Representation, current_report
from rangeserver.origin.deadlines import Deadline, Deadlines
from rangeserver.origin.pool import over_a_new_connection
from rangeserver.origin.retrying import (
    OF_A_CONNECTION,
    PROGRESS_BYTES,
    RetryPolicy,
    RetryTokens,
    Uniform,
)
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

log = logging.getLogger(__name__)

T = TypeVar("T")

PIECE_BYTES = 1 << 20
"""What a body asks for that had to give its connection back to others; twice as much each time it
may keep it for that long. What is on its way is lost with a connection."""


class ResumingOrigin:
    """Repeats failed requests to ``inner`` and continues its broken bodies. All attempts at one
    answer share one of ``deadlines``.
    """

    def __init__(
        self,
        inner: Origin[bytes],
        policy: RetryPolicy,
        deadlines: Deadlines,
        *,
        tokens: RetryTokens | None = None,
        uniform: Uniform = random.uniform,
        metrics: OriginMetrics | None = None,
    ) -> None:
        self.inner = inner
        self._deadlines = deadlines
        self.retries = Retries(policy, tokens=tokens, metrics=metrics, uniform=uniform)

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version."""
        facts, after = await self._persistently(lambda _: self.inner.describe(key))
        self.retries.tokens.succeeded(after)
        return facts

    @asynccontextmanager
    async def open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AsyncIterator[Representation[bytes]]:
        """Facts and bytes; the body that they come with is continued like any other."""
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(self.begin(key, wanted))
            facts, begun = opened.facts, opened.begun
            if begun is None:
                yield opened
                return
            async with aclosing(self.resumed(facts, begun, stack)) as parts:
                yield Representation(facts, self, Begun(begun.span, parts))

    @asynccontextmanager
    async def read(self, facts: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``span``."""
        async with AsyncExitStack() as stack:
            parts, _ = await self._persistently(
                lambda after: stack.enter_async_context(self.once(facts, span, after))
            )
            async with aclosing(self.resumed(facts, Begun(span, parts), stack)) as resumed:
                yield resumed

    def representation(
        self, facts: ObjectFacts, *, unvalidated: bool = False
    ) -> Representation[bytes]:
        """The version that these facts describe."""
        return Representation(facts, self, unvalidated=unvalidated)

    @asynccontextmanager
    async def begin(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AsyncIterator[Representation[bytes]]:
        """Facts and bytes; whoever wants all of them continues the body himself if it breaks."""
        async with AsyncExitStack() as stack:
            opened, after = await self._persistently(
                lambda _: stack.enter_async_context(self.inner.open(key, wanted))
            )
            facts, begun = opened.facts, opened.begun
            if begun is None:
                self.retries.tokens.succeeded(after)
                yield self.representation(facts)
                return
            async with aclosing(self._earning(begun.parts, begun.span.length, after)) as parts:
                yield Representation(facts, self, Begun(begun.span, parts))

    @asynccontextmanager
    async def once(
        self, facts: ObjectFacts, span: ByteSpan, after: OriginError | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``span`` from a single request."""
        reading = self.inner.read(facts, span)
        if isinstance(after, OF_A_CONNECTION):
            reading = _entered_over_a_new_connection(reading)
        async with reading as parts, aclosing(self._earning(parts, span.length, after)) as earning:
            yield earning

    async def resumed(
        self, facts: ObjectFacts, begun: Begun[bytes], stack: AsyncExitStack
    ) -> AsyncGenerator[bytes]:
        """The bytes of a read that has begun, then of whatever continues it.

        Invariant: the bytes yielded are those of ``[span.start, position)``, and ``stack`` holds
        what is open at the origin. One that is asked for the next part has taken the one before.
        """
        span = begun.span
        parts: AsyncIterator[bytes] | None = begun.parts
        report = current_report()
        position = span.start
        piece: int | None = None
        failure: OriginError | None = None
        while True:
            try:
                if parts is None:
                    rest = ByteSpan(position, min(span.stop, position + (piece or span.stop)))
                    parts = await stack.enter_async_context(self.once(facts, rest, failure))
                async for part in parts:
                    position += len(part)
                    yield part
                    report.delivered(len(part))
            except OriginRecalled:
                piece, failure = PIECE_BYTES, None
            except OriginError as error:
                failure = error.again()
                await stack.aclose()
                if not await self.retries.another(failure, report):
                    raise
            else:
                if position == span.stop:
                    return
                assert piece is not None
                piece, failure = piece * 2, None
            parts = None
            await stack.aclose()

    async def _persistently(
        self, attempt: Callable[[OriginError | None], Awaitable[T]]
    ) -> tuple[T, OriginError | None]:
        """The outcome of the first attempt that succeeds, and what the one before it failed for.
        Raises what the last one failed for.
        """
        failure: OriginError | None = None
        report = current_report()
        # One that has begun has the patience of its body, and is bound by each attempt's deadline.
        deadline = None if report.begun else Deadline(self._deadlines)
        try:
            with deadline or nullcontext():
                until = deadline.passes if deadline is not None else None
                while True:
                    try:
                        with over_a_new_connection(wanted=isinstance(failure, OF_A_CONNECTION)):
                            return await attempt(failure), failure
                    except OriginError as error:
                        failure = error.again()
                        if not await self.retries.another(failure, report, until=until):
                            raise
        except TimeoutError:
            if failure is not None:
                raise failure from None
            msg = f"no answer within {self._deadlines.seconds:g} s"
            raise OriginTimeout(msg) from None
        finally:
            # An error and a frame that it came through must not hold each other: with them they
            # would hold all that waits above, open files too.
            failure = None

    async def _earning(
        self, parts: AsyncIterator[bytes], length: int, after: OriginError | None
    ) -> AsyncGenerator[bytes]:
        """The parts of a body of so many bytes, which earns tokens as it comes."""
        left, unpaid = length, 0
        async for part in parts:
            left -= len(part)
            unpaid += len(part)
            if unpaid >= PROGRESS_BYTES or not left:
                self.retries.tokens.succeeded(after)
                unpaid, after = 0, None
            yield part


@asynccontextmanager
async def _entered_over_a_new_connection(inner: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
    """``inner``, whose first request takes no connection that was used before."""
    async with AsyncExitStack() as stack:
        with over_a_new_connection():
            entered = await stack.enter_async_context(inner)
        yield entered
