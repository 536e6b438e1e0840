"""An origin that does not give up at once: requests that fail are repeated, and bodies that break
are continued at the next byte.

Retries of SDKs end where a body begins. Here a body that ends early, breaks, stalls or drips is
closed, and the rest of the span is asked for anew, of the same version (the inner origin pins
every read by If-Match). Whoever reads sees one body, or an error when the budget is spent.

An answer has a number of attempts and a time, from the wait for a connection to its first byte.
A body has a number of attempts in a row, each of one request. Delivering :data:`PROGRESS_BYTES`
restores it: an origin that breaks every hundred megabytes is used to the end of the film, one
that breaks at every other byte is not. And all together have :class:`RetryTokens`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TypeVar

from rangeserver.errors import (
    OriginBodyError,
    OriginBusy,
    OriginError,
    OriginProtocolError,
    OriginRecalled,
    OriginServerError,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import Opened, Origin, note_resume, report_id
from rangeserver.origin.deadlines import answered_within
from rangeserver.origin.pool import over_a_new_connection
from rangeserver.origin.retrying import (
    Pauses,
    RetryPolicy,
    RetryTokens,
    Uniform,
    reason_to_retry,
)
from rangeserver.origin.slots import continuing
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

log = logging.getLogger(__name__)

T = TypeVar("T")

PROGRESS_BYTES = 1 << 20
"""Bytes after which a resumed body counts as healthy again."""

PIECE_BYTES = 1 << 20
"""What a body asks for that had to give its connection back to others; twice as much each time it
may keep it for that long. What is on its way is lost with a connection."""

# Worth another attempt at a body. The others say that it would fail again, or that the version
# is gone.
_RESUMABLE = (
    OriginProtocolError,
    OriginServerError,
    OriginBusy,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)

# May be about the connection alone. Others that were kept are perhaps no better: origins close
# them by the dozen, so the next attempt goes over a new one.
_OF_A_CONNECTION = (OriginBodyError, OriginTimeout, OriginUnreachable)


class ResumingOrigin:
    """Repeats failed requests to ``inner`` and continues its broken bodies."""

    def __init__(
        self,
        inner: Origin[bytes],
        policy: RetryPolicy,
        *,
        tokens: RetryTokens | None = None,
        uniform: Uniform = random.uniform,
        metrics: OriginMetrics | None = None,
    ) -> None:
        self.inner = inner
        self._tokens = tokens or RetryTokens()
        self._metrics = metrics or OriginMetrics()
        self._policy = policy
        self._uniform = uniform

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version."""
        return await self._persistently(lambda: self.inner.describe(key))

    @asynccontextmanager
    async def open(self, key: ObjectKey, wanted: AskedRange) -> AsyncIterator[Opened[bytes]]:
        """Facts and bytes; the body that they come with is continued like any other."""
        async with AsyncExitStack() as stack:
            opened = await self._persistently(
                lambda: stack.enter_async_context(self.inner.open(key, wanted))
            )
            if opened.parts is None:
                yield opened
                return
            resumed = self._resumed(opened.facts, opened.span, stack, opened.parts)
            async with aclosing(resumed) as parts:
                yield Opened(opened.facts, opened.span, parts)

    @asynccontextmanager
    async def read(self, facts: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``span``."""
        async with AsyncExitStack() as stack:
            parts = await self._persistently(
                lambda: stack.enter_async_context(self.inner.read(facts, span))
            )
            async with aclosing(self._resumed(facts, span, stack, parts)) as resumed:
                yield resumed

    async def _persistently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The outcome of the first attempt that succeeds, or the error of the last one."""
        failure: OriginError | None = None
        pauses = Pauses(self._policy, self._uniform)
        seconds = self._policy.answer_seconds
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        try:
            async with answered_within(seconds):
                for left in reversed(range(self._policy.max_attempts)):
                    try:
                        with over_a_new_connection(wanted=isinstance(failure, _OF_A_CONNECTION)):
                            outcome = await attempt()
                    except OriginError as error:
                        failure = error
                        pause = pauses.next(error)
                        in_time = left and loop.time() + pause < until
                        if not in_time or not self._may_retry(error):
                            raise
                        await asyncio.sleep(pause)
                    else:
                        self._tokens.succeeded()
                        return outcome
        except TimeoutError:
            if failure is not None:
                raise failure from None
            msg = f"no answer within {seconds:g} s"
            raise OriginTimeout(msg) from None
        finally:
            # An error and a frame that it came through must not hold each other: with them they
            # would hold all that waits above, open files too.
            failure = None
        raise AssertionError

    def _may_retry(self, error: OriginError) -> bool:
        reason = reason_to_retry(error)
        if reason is None or not self._tokens.take(error):
            return False
        self._metrics.retried(reason)
        log.debug("request %s: trying again: %s", report_id(), error)
        return True

    async def _resumed(
        self,
        facts: ObjectFacts,
        span: ByteSpan,
        stack: AsyncExitStack,
        parts: AsyncIterator[bytes],
    ) -> AsyncGenerator[bytes]:
        """The bytes of ``parts``, then of whatever continues them.

        Invariant: the bytes yielded are those of ``[span.start, position)``, and ``stack`` holds
        what is open at the origin.
        """
        position = span.start
        attempts = _Resumes(self._policy, self._uniform)
        piece: int | None = None
        while True:
            try:
                async for part in parts:
                    position += len(part)
                    attempts.succeeded(len(part))
                    yield part
            except OriginRecalled:
                piece = PIECE_BYTES
                cause: OriginError | None = None
            except _RESUMABLE as error:
                cause = error
            else:
                if position == span.stop:
                    return
                assert piece is not None
                piece *= 2
                cause = None
            await stack.aclose()
            rest = ByteSpan(position, min(span.stop, position + (piece or span.stop)))
            try:
                if cause is None:
                    parts = await self._continued(facts, rest, stack, attempts)
                else:
                    parts = await self._reopened(facts, rest, stack, attempts, cause)
            finally:
                del cause  # as above

    async def _continued(
        self,
        facts: ObjectFacts,
        rest: ByteSpan,
        stack: AsyncExitStack,
        attempts: _Resumes,
    ) -> AsyncIterator[bytes]:
        """Go on with a body of which nothing was wrong."""
        try:
            with continuing():
                return await stack.enter_async_context(self.inner.read(facts, rest))
        except _RESUMABLE as error:
            return await self._reopened(facts, rest, stack, attempts, error)

    async def _reopened(
        self,
        facts: ObjectFacts,
        rest: ByteSpan,
        stack: AsyncExitStack,
        attempts: _Resumes,
        cause: OriginError,
    ) -> AsyncIterator[bytes]:
        """One request for each attempt: a repeated resume is a resume as well."""
        while attempts.left() and (not attempts.used or self._tokens.take(cause)):
            await asyncio.sleep(attempts.pause(cause))
            request_id = note_resume()
            self._metrics.resumed()
            log.info("request %s: resuming at byte %d: %s", request_id, rest.start, cause)
            try:
                async with answered_within(self._policy.answer_seconds):
                    with over_a_new_connection(wanted=isinstance(cause, _OF_A_CONNECTION)):
                        return await stack.enter_async_context(self.inner.read(facts, rest))
            except _RESUMABLE as error:
                cause = error
            except TimeoutError:
                cause = OriginTimeout(f"no answer within {self._policy.answer_seconds:g} s")
        try:
            raise cause
        finally:
            del cause  # as above


class _Resumes:
    """The budget of one body, and its pauses."""

    def __init__(self, policy: RetryPolicy, uniform: Uniform) -> None:
        self._max = policy.max_resumes
        self._pauses = Pauses(policy, uniform)
        self._delivered = 0
        self.used = 0

    def left(self) -> bool:
        return self.used < self._max

    def pause(self, cause: OriginError) -> float:
        """Take one attempt; the seconds to wait before it."""
        self.used += 1
        self._delivered = 0
        return self._pauses.next(cause, patient=True)

    def succeeded(self, delivered: int) -> None:
        """Account for bytes that arrived; enough of them restore the budget."""
        self._delivered += delivered
        if self.used and self._delivered >= PROGRESS_BYTES:
            self.used = 0
            self._pauses.restart()
