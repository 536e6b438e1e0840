"""When a failed request is repeated: which errors, how often, how soon, and who pays.

Two budgets. Each response has one of its own (:class:`RetryBudget`). All requests to an endpoint
share another (:class:`RetryTokens`), so an origin that fails everybody gets fewer requests, and not
two or three times as many.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from rangeserver.errors import (
    OriginBodyError,
    OriginBusy,
    OriginError,
    OriginProtocolError,
    OriginServerError,
    OriginSuspended,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)

MAX_TOKENS = 100.0
TOKENS_PER_SUCCESS = 0.2
"""Retries that may be saved up, and those earned by each complete answer, a long one by each
:data:`PROGRESS_BYTES` of it. Figures and rules are those of AWS's standard retry mode, but a body
is a success only as it comes. An origin that fails every request soon gets no repeated ones."""

PROGRESS_BYTES = 1 << 20
"""Bytes of a body that count as a success."""

_THROTTLED_PAUSE_SECONDS = 0.5

_RESTART_PAUSE_SECONDS = 0.5
"""An origin that refuses connections is probably restarting. A body that has begun can wait for
that, as its player has a buffer; otherwise an early error is better."""

_SUSPENDED_PAUSE_SECONDS = 1.0
"""A circuit stays open for a second at least."""

Uniform = Callable[[float, float], float]
"""A random number between two bounds."""


NOT_SENT = (OriginBusy, OriginSuspended)
"""The origin was not asked: it cost nothing, and says nothing about the origin."""

RESUMABLE = (
    OriginProtocolError,
    OriginServerError,
    OriginBusy,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
"""Worth another attempt at a body. The others would only repeat, or say that the version is gone.
"""

OF_A_CONNECTION = (OriginBodyError, OriginTimeout, OriginUnreachable)
"""Perhaps about the connection alone. Other idle ones may be no better, as origins close them by
the dozen, so the next attempt uses a new one."""


def reason_to_retry(error: OriginError) -> str | None:
    """The metric label of a retry after ``error``; ``None`` if a retry would only fail again."""
    if isinstance(error, NOT_SENT):
        return None
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    return None


_REASONS: dict[type[OriginError], str] = {
    OriginUnreachable: "unreachable",
    OriginTimeout: "timeout",
    OriginThrottled: "throttled",
    OriginServerError: "server_error",
}


def price_of_retry(error: OriginError) -> float:
    """The tokens that a retry after ``error`` costs."""
    if isinstance(error, NOT_SENT):
        return 0.0  # the attempt that was not sent is paid for, or was the first
    # A whole deadline says more about the origin than a closed connection does.
    return 2.0 if isinstance(error, OriginTimeout) else 1.0


class RetryTokens:
    """The retries of all requests to one endpoint.

    They are spent in :class:`~rangeserver.origin.attempts.Retries` and earned in
    :class:`~rangeserver.origin.attempt.Attempt`.
    """

    def __init__(self) -> None:
        self._tokens = MAX_TOKENS

    def earn(self, refund: float = 0.0) -> None:
        """An answer is complete, or has come far. A retry that was worth it gets its price back."""
        self._tokens = min(self._tokens + (refund or TOKENS_PER_SUCCESS), MAX_TOKENS)

    def take(self, error: OriginError) -> bool:
        """Pay for a retry after ``error``; ``False`` if there are too few tokens."""
        price = price_of_retry(error)
        if self._tokens < price:
            return False
        self._tokens -= price
        return True


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The most requests for one answer, the most resumes of a body in a row, and the bounds of the
    pause before each attempt but the first, in seconds.
    """

    max_attempts: int
    max_resumes: int
    min_pause_seconds: float = 0.05
    max_pause_seconds: float = 2.0
    turn_seconds: float = 30.0
    """How long a response that has begun waits until an attempt can be sent: for an open circuit,
    a free connection, tokens."""


class Backoff:
    """Pauses between attempts: decorrelated jitter, so that requests that failed together do not
    come back together (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
    """

    def __init__(self, policy: RetryPolicy, uniform: Uniform = random.uniform) -> None:
        self._policy = policy
        self._uniform = uniform
        self._last = policy.min_pause_seconds
        self._first = True

    def next(self, cause: OriginError, *, patient: bool = False) -> float:
        """The seconds to wait before the next attempt, more of them if ``patient``.

        Zero the first time, if a connection has just ended: most likely the origin closed it
        because it was idle, which says nothing about the origin.
        """
        policy = self._policy
        first, self._first = self._first, False
        suspended = isinstance(cause, OriginSuspended)
        ended = isinstance(cause, OriginUnreachable) and not cause.connecting
        if first and ended and not suspended:
            return 0.0
        low = policy.min_pause_seconds
        if suspended:
            low = min(max(low, _SUSPENDED_PAUSE_SECONDS), policy.max_pause_seconds)
        elif isinstance(cause, OriginThrottled):
            low = min(max(low, _THROTTLED_PAUSE_SECONDS), policy.max_pause_seconds)
        elif patient and isinstance(cause, OriginUnreachable) and cause.connecting:
            # Six such pauses outlast a restart of some seconds, whatever the random numbers.
            low = min(max(low, _RESTART_PAUSE_SECONDS, self._last * 2), policy.max_pause_seconds)
        high = max(self._last * 3, low)
        self._last = min(policy.max_pause_seconds, self._uniform(low, high))
        return self._last

    def restart(self) -> None:
        """Begin again with short pauses: there was progress."""
        self._last = self._policy.min_pause_seconds
        self._first = True


class RetryBudget:
    """The attempts of one response, in whatever layers they fail: requests, bodies, and fetches for
    the cache that others wait for as well.

    Each failure that the response was waiting for costs one attempt. Only bytes that its client got
    restore them: an origin that breaks every hundred megabytes is used to the end of the film, one
    that breaks at every other byte is not.

    Before its first byte a response has ``max_attempts`` in all, in quick succession, and then a
    true status. Once begun it has ``max_resumes`` in a row, and time, as its player has a buffer:
    it waits out a restart of the origin, an open circuit, and a lack of connections.

    ``failed`` counts the attempts in a row that have failed.
    """

    __slots__ = (
        "_backoff",
        "_clock",
        "_delivered",
        "_policy",
        "_uniform",
        "_waits_since",
        "failed",
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
        self._backoff = Backoff(policy, uniform)
        self._clock = clock
        self._delivered = 0
        self._waits_since: float | None = None

    def unspent(self) -> RetryBudget:
        """A budget for another response, by the same rules."""
        return RetryBudget(self._policy, self._uniform, self._clock)

    def after(self, error: OriginError, *, begun: bool) -> float | None:
        """The seconds to wait before another attempt; ``None`` if there is none."""
        policy = self._policy
        if isinstance(error, NOT_SENT):
            # A lack of connections breaks no body: it is waited out even without resumes.
            may_wait = begun and (policy.max_resumes > 0 or isinstance(error, OriginBusy))
            return self.until_turn(error) if may_wait else None
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
        return self._backoff.next(error, patient=begun)

    def until_turn(self, error: OriginError) -> float | None:
        """The seconds before trying again whether an attempt can be sent; ``None`` after
        ``turn_seconds`` of that.
        """
        now = self._clock()
        if self._waits_since is None:
            self._waits_since = now
        if now - self._waits_since >= self._policy.turn_seconds:
            return None
        return self._backoff.next(error, patient=True)

    def delivered(self, count: int, *, first: bool) -> None:
        """The client got so many bytes; ``first``: it had none before."""
        self._delivered += count
        self._waits_since = None
        if self.failed and (first or self._delivered >= PROGRESS_BYTES):
            self.failed = 0
            self._backoff.restart()
