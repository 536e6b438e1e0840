"""An origin whose bodies do not break: what is cut off is continued at the next byte.

Retries of SDKs end where a body begins. Here a body that ends early, breaks, stalls or drips is
closed, and the rest of the span is asked for anew, of the same version (the inner origin pins
every read by If-Match). Whoever reads sees one body, or an error when the budget is spent.

The budget is a number of attempts in a row. Delivering :data:`PROGRESS_BYTES` restores it: an
origin that breaks every hundred megabytes is used to the end of the film, one that breaks at
every other byte is not.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

from rangeserver.errors import (
    OriginBusy,
    OriginError,
    OriginProtocolError,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import Origin, Part, note_resume
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

log = logging.getLogger(__name__)

PROGRESS_BYTES = 1 << 20
"""Bytes after which a resumed body counts as healthy again."""

# Worth another attempt. The others say that it would fail again, or that the version is gone.
_RESUMABLE = (OriginProtocolError, OriginBusy, OriginThrottled, OriginTimeout, OriginUnreachable)


@dataclass(frozen=True, slots=True)
class ResumePolicy:
    """How hard to try: attempts in a row, and the bounds of the pause before each, in seconds."""

    max_resumes: int
    min_pause_seconds: float = 0.05
    max_pause_seconds: float = 2.0


class ResumingOrigin:
    """Continues broken bodies of ``inner``."""

    def __init__(
        self,
        inner: Origin,
        policy: ResumePolicy,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
        metrics: OriginMetrics | None = None,
    ) -> None:
        self.inner = inner
        self._metrics = metrics or OriginMetrics()
        self._policy = policy
        self._uniform = uniform

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version, as ``inner`` tells them."""
        return await self.inner.describe(key)

    @asynccontextmanager
    async def read(self, facts: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[Part]]:
        """The bytes of ``span``; entering fails as ``inner`` does, for nothing is sent yet."""
        async with AsyncExitStack() as stack:
            parts = await stack.enter_async_context(self.inner.read(facts, span))
            async with aclosing(self._resumed(facts, span, stack, parts)) as resumed:
                yield resumed

    async def _resumed(
        self,
        facts: ObjectFacts,
        span: ByteSpan,
        stack: AsyncExitStack,
        parts: AsyncIterator[Part],
    ) -> AsyncGenerator[Part]:
        """The bytes of ``parts``, then of whatever continues them.

        Invariant: the bytes yielded are those of ``[span.start, position)``, and ``stack`` holds
        what is open at the origin.
        """
        position = span.start
        attempts = _Attempts(self._policy, self._uniform)
        while True:
            try:
                async for part in parts:
                    position += len(part)
                    attempts.succeeded(len(part))
                    yield part
            except _RESUMABLE as error:
                cause: OriginError = error
            else:
                return
            await stack.aclose()
            rest = ByteSpan(position, span.stop)
            parts = await self._reopened(facts, rest, stack, attempts, cause)

    async def _reopened(
        self,
        facts: ObjectFacts,
        rest: ByteSpan,
        stack: AsyncExitStack,
        attempts: _Attempts,
        cause: OriginError,
    ) -> AsyncIterator[Part]:
        while attempts.left():
            await asyncio.sleep(attempts.pause())
            request_id = note_resume()
            self._metrics.resumed()
            log.info("request %s: resuming at byte %d: %s", request_id, rest.start, cause)
            try:
                return await stack.enter_async_context(self.inner.read(facts, rest))
            except _RESUMABLE as error:
                cause = error
        raise cause


class _Attempts:
    """The budget of one read, and its pauses.

    Decorrelated jitter, so that the readers of a failing origin do not come back all at once.
    """

    def __init__(self, policy: ResumePolicy, uniform: Callable[[float, float], float]) -> None:
        self._policy = policy
        self._uniform = uniform
        self._used = 0
        self._pause = policy.min_pause_seconds
        self._delivered = 0

    def left(self) -> bool:
        return self._used < self._policy.max_resumes

    def pause(self) -> float:
        """Take one attempt; the seconds to wait before it."""
        self._used += 1
        self._delivered = 0
        policy = self._policy
        self._pause = min(
            policy.max_pause_seconds, self._uniform(policy.min_pause_seconds, self._pause * 3)
        )
        return self._pause

    def succeeded(self, delivered: int) -> None:
        """Account for bytes that arrived; enough of them restore the budget."""
        self._delivered += delivered
        if self._used and self._delivered >= PROGRESS_BYTES:
            self._used = 0
            self._pause = self._policy.min_pause_seconds
