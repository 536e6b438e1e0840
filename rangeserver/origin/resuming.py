"""Repeats requests that fail, and continues bodies that break at their next byte.

The retries of SDKs end where a body begins. Here a body that ends early, breaks, stalls or drips is
closed, and the rest of the span is asked for again, of the same version: the inner origin pins each
read by If-Match. The reader sees one body, or an error when the budget of its response is spent
(:class:`~rangeserver.origin.retrying.RetryBudget`).

There are two loops: :meth:`ResumingOrigin._answer` up to the head of an answer, within a deadline,
and :meth:`ResumingOrigin.resumed` from there on, without one. Both ask
:meth:`~rangeserver.origin.attempts.Retries.another` whether they go on.
"""

from __future__ import annotations

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
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.attempts import Retries, SingleAttempts
from rangeserver.origin.base import Begun, ReadReport, Representation, current_report
from rangeserver.origin.deadlines import Deadline, Deadlines
from rangeserver.origin.retrying import RetryPolicy, RetryTokens, Uniform
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

T = TypeVar("T")

PIECE_BYTES = 1 << 20
"""What a body asks for after its connection was recalled; doubled each time it may keep one for
that long. A recalled connection loses the bytes that are on their way."""


class ResumingOrigin:
    """``inner``, whose failed requests are repeated and whose broken bodies are continued. All
    attempts at one answer share one of ``deadlines``.
    """

    def __init__(
        self,
        inner: SingleAttempts,
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
        return await self._answer(lambda attempt: self.inner.describe(key, attempt))

    @asynccontextmanager
    async def open(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AsyncIterator[Representation[bytes]]:
        """Facts and bytes; the body is continued like any other."""
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
            parts = await self._answer(
                lambda attempt: stack.enter_async_context(self.inner.read(facts, span, attempt))
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
        """Facts and bytes; a body that breaks is not continued."""
        async with AsyncExitStack() as stack:
            opened = await self._answer(
                lambda attempt: stack.enter_async_context(self.inner.open(key, wanted, attempt))
            )
            yield Representation(opened.facts, self, opened.begun)

    def once(
        self, facts: ObjectFacts, span: ByteSpan, after: OriginError | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of ``span`` from a single request."""
        return self._once(facts, span, current_report(), after)

    def _once(
        self, facts: ObjectFacts, span: ByteSpan, report: ReadReport, after: OriginError | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self.inner.read(facts, span, self.retries.attempt(report, after, report.deadline))

    async def resumed(
        self, facts: ObjectFacts, begun: Begun[bytes], stack: AsyncExitStack
    ) -> AsyncGenerator[bytes]:
        """The bytes of a body that has begun, and of those that continue it.

        Invariant: the bytes yielded are those of ``[span.start, position)``, and ``stack`` holds
        what is open at the origin. To ask for the next part means that the last one was taken.
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
                    attempt = self._once(facts, rest, report, failure)
                    parts = await stack.enter_async_context(attempt)
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

    async def _answer(self, make: Callable[[Attempt], Awaitable[T]]) -> T:
        """What the first attempt returns that succeeds. Raises the error of the last one."""
        failure: OriginError | None = None
        report = current_report()
        # A response that has begun is as patient as its body, and bound by each request's deadline.
        deadline = None if report.begun else Deadline(self._deadlines, report.deadline)
        try:
            with deadline or nullcontext():
                until = deadline.passes if deadline is not None else None
                while True:
                    try:
                        return await make(
                            self.retries.attempt(report, failure, deadline or report.deadline)
                        )
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
            # An error and a frame that it came through must not refer to each other: they would
            # keep alive all frames above, and open files.
            failure = None
