"""Attempts of a mount: the rules of :mod:`rangeserver.origin.retrying`, applied to responses.

Everything that repeats a request to the origin asks :class:`Retries`: :mod:`.resuming` for requests
and bodies, the cache for its fetches. Two things below are no retries, and cost no budget: a hedged
request, and one that is signed anew after its signature was refused (:mod:`.upstream`,
:mod:`.signing`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

from rangeserver.errors import OriginBodyError, OriginError
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.base import Begun, Origin, ReadReport, Reads, Representation
from rangeserver.origin.deadlines import Deadline
from rangeserver.origin.retrying import (
    NOT_SENT,
    OF_A_CONNECTION,
    RetryBudget,
    RetryPolicy,
    RetryTokens,
    Uniform,
    price_of_retry,
    reason_to_retry,
)
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

log = logging.getLogger(__name__)


class Retries:
    """How requests of a mount are repeated; ``tokens`` are those of its endpoint."""

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

    def attempt(
        self, report: ReadReport, after: OriginError | None, deadline: Deadline | None
    ) -> Attempt:
        """An attempt; ``after`` is the error of the one before it, if one has failed."""
        return Attempt(
            report,
            isinstance(after, OF_A_CONNECTION),
            deadline,
            self.tokens,
            price_of_retry(after) if after is not None else 0.0,
        )

    async def another(
        self, error: OriginError, report: ReadReport, *, until: float | None = None
    ) -> bool:
        """Whether there is another attempt after ``error``; returns when it is time for it.
        ``until`` is the loop's time from which on it would be too late.
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

    def pause_after(self, error: OriginError, report: ReadReport) -> float | None:
        """Charge a response for a failed attempt: the seconds to wait before another one, ``None``
        if it has none left.
        """
        pause = self._budget(report).after(error, begun=report.begun)
        if pause is not None and _is_resume(error, report):
            report.resumes += 1
        return pause

    def pay(self, error: OriginError, report: ReadReport) -> bool:
        """Pay for another attempt with tokens, which all share; ``False`` if there are too few."""
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
        return self._budget(report).until_turn(error) if report.begun else None

    def _budget(self, report: ReadReport) -> RetryBudget:
        if report.budget is None:
            report.budget = RetryBudget(self.policy, self._uniform)
        return report.budget


def _is_resume(error: OriginError, report: ReadReport) -> bool:
    """Whether an attempt after ``error`` continues a body that was asked for before."""
    return not isinstance(error, NOT_SENT) and (report.begun or isinstance(error, OriginBodyError))


class SingleAttempts(Protocol):
    """An origin that makes one attempt at everything, and reports to it."""

    async def describe(self, key: ObjectKey, attempt: Attempt) -> ObjectFacts:
        """See :class:`~rangeserver.origin.base.Origin`, as for the others."""
        ...

    def open(
        self, key: ObjectKey, wanted: AskedRange, attempt: Attempt
    ) -> AbstractAsyncContextManager[Representation[bytes]]:
        """See above."""
        ...

    def read(
        self, facts: ObjectFacts, span: ByteSpan, attempt: Attempt
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """See above."""
        ...


class AttemptedReads(Reads[bytes], Protocol):
    """Reads that are also available attempt by attempt, for those who continue them themselves."""

    retries: Retries

    def once(
        self, facts: ObjectFacts, span: ByteSpan, after: OriginError | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Like ``read``, but one request; ``after`` is the error of the one before it."""
        ...


class AttemptedOrigin(Origin[bytes], AttemptedReads, Protocol):
    """An origin whose bodies are available attempt by attempt."""

    def begin(
        self, key: ObjectKey, wanted: AskedRange
    ) -> AbstractAsyncContextManager[Representation[bytes]]:
        """Like ``open``, but a body that breaks is not continued."""
        ...

    def resumed(
        self, facts: ObjectFacts, begun: Begun[bytes], stack: AsyncExitStack
    ) -> AsyncGenerator[bytes]:
        """The bytes of a body that has begun and of those that continue it. Closing ``stack``
        closes what is open at the origin.
        """
        ...
