"""One budget of attempts for each response, whatever layers it passes.

Requests fail, bodies break, fetches for the cache that others wait for as well: each failure that
a response was waiting for costs it one attempt. Bytes that its client got restore them, and
nothing else does: an origin that breaks every hundred megabytes is used to the end of the film, one
that breaks at every other byte is not.

Until its first byte a response has ``max_attempts`` in all, soon after one another, and then a true
status. Once it has begun it has ``max_resumes`` in a row, and time: its player has a buffer. It
waits out a restart of the origin then, an open circuit, and a lack of room.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

from rangeserver.errors import OriginBodyError, OriginBusy, OriginError
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import Begun, Origin, ReadReport, Reads, Representation
from rangeserver.origin.retrying import (
    NOT_SENT,
    PROGRESS_BYTES,
    RESUMABLE,
    Pauses,
    RetryPolicy,
    RetryTokens,
    Uniform,
    reason_to_retry,
)
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

log = logging.getLogger(__name__)


class Attempts:
    """What one response has spent. ``failed`` counts its attempts in a row that came to nothing."""

    __slots__ = (
        *("_clock", "_delivered", "_pauses", "_policy", "_uniform", "_waits_since", "failed"),
    )

    def __init__(
        self,
        policy: RetryPolicy,
        uniform: Uniform = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failed = 0
        self._policy = policy
        self._uniform = uniform
        self._pauses = Pauses(policy, uniform)
        self._clock = clock
        self._delivered = 0
        self._waits_since: float | None = None

    def anew(self) -> Attempts:
        """Those of another response, with the same rules."""
        return Attempts(self._policy, self._uniform, self._clock)

    def after(self, error: OriginError, *, begun: bool) -> float | None:
        """The seconds to wait before another attempt; ``None`` if there is none."""
        policy = self._policy
        if isinstance(error, NOT_SENT):
            # One that is busy fails nobody: it is waited for though broken bodies are not.
            may_wait = begun and (policy.max_resumes > 0 or isinstance(error, OriginBusy))
            return self.in_turn(error) if may_wait else None
        if begun:
            left = isinstance(error, RESUMABLE) and self.failed < policy.max_resumes
        else:
            repeated = reason_to_retry(error) is not None or isinstance(error, OriginBodyError)
            left = repeated and self.failed < policy.max_attempts - 1
        if not left:
            return None
        self.failed += 1
        self._delivered = 0
        self._waits_since = None
        return self._pauses.next(error, patient=begun)

    def in_turn(self, error: OriginError) -> float | None:
        """The seconds until it is worth looking whether an attempt can be sent now; ``None`` if it
        was waited for long enough.
        """
        now = self._clock()
        if self._waits_since is None:
            self._waits_since = now
        if now - self._waits_since >= self._policy.turn_seconds:
            return None
        return self._pauses.next(error, patient=True)

    def delivered(self, count: int, *, first: bool) -> None:
        """The client got so many bytes, for the ``first`` time or once more."""
        self._delivered += count
        self._waits_since = None
        if self.failed and (first or self._delivered >= PROGRESS_BYTES):
            self.failed = 0
            self._pauses.restart()


class Retries:
    """How the requests of a mount are repeated; ``tokens`` are shared by all of its endpoint."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        tokens: RetryTokens | None = None,
        metrics: OriginMetrics | None = None,
        uniform: Uniform = random.uniform,
    ) -> None:
        self.policy = policy
        self.tokens = tokens or RetryTokens()
        self._metrics = metrics or OriginMetrics()
        self._uniform = uniform

    def pause_after(self, error: OriginError, report: ReadReport) -> float | None:
        """Charge a response for an attempt that failed: the seconds that it has to wait before
        another one, ``None`` if it has none left.
        """
        pause = self._attempts(report).after(error, begun=report.begun)
        if pause is not None and _is_resume(error, report):
            report.resumes += 1
        return pause

    def pay(self, error: OriginError, report: ReadReport) -> bool:
        """Pay for the request of another attempt, out of the budget of all."""
        if not self.tokens.take(error):
            return False
        if _is_resume(error, report):
            self._metrics.resumed()
            log.info("request %s: resuming: %s", report.request_id, error)
        elif (reason := reason_to_retry(error)) is not None:
            self._metrics.retried(reason)
            log.debug("request %s: trying again: %s", report.request_id, error)
        return True

    def turn(self, error: OriginError, report: ReadReport) -> float | None:
        """The seconds to wait for tokens; ``None`` if they are not waited for any longer."""
        return self._attempts(report).in_turn(error) if report.begun else None

    async def another(
        self, error: OriginError, report: ReadReport, *, until: float | None = None
    ) -> bool:
        """Whether to make another attempt, at once: what there was to wait for is over. ``until``
        is the time on the loop at which it would come too late.
        """
        pause = self.pause_after(error, report)
        if pause is None:
            return False
        if until is not None and asyncio.get_running_loop().time() + pause >= until:
            return False
        while not self.pay(error, report):
            turn = self.turn(error, report)
            if turn is None:
                return False
            await asyncio.sleep(turn)
            pause = 0.0
        await asyncio.sleep(pause)
        return True

    def _attempts(self, report: ReadReport) -> Attempts:
        if report.attempts is None:
            report.attempts = Attempts(self.policy, self._uniform)
        return report.attempts


def _is_resume(error: OriginError, report: ReadReport) -> bool:
    """Whether an attempt after ``error`` continues a body that was asked for before."""
    return not isinstance(error, NOT_SENT) and (report.begun or isinstance(error, OriginBodyError))


class AttemptedReads(Reads[bytes], Protocol):
    """Reads that can also be had attempt by attempt, by those who continue them on their own."""

    retries: Retries

    def once(
        self, facts: ObjectFacts, span: ByteSpan, after: OriginError | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Like ``read``, but just one request; ``after`` is what the one before it failed for."""
        ...


class AttemptedOrigin(Origin[bytes], AttemptedReads, Protocol):
    """An origin whose bodies can be had attempt by attempt."""

    def begin(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AbstractAsyncContextManager[Representation[bytes]]:
        """Like ``open``, but a body that breaks is not continued."""
        ...

    def resumed(
        self, facts: ObjectFacts, begun: Begun[bytes], stack: AsyncExitStack
    ) -> AsyncGenerator[bytes]:
        """The bytes of a read that has begun, which closing ``stack`` closes, and of whatever
        continues it.
        """
        ...
