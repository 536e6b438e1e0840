"""How often and how soon a failed request is worth another.

One budget for each response (:mod:`rangeserver.origin.attempts`), and one for all: an origin that
fails everybody gets fewer requests, not twice or thrice as many.
"""

from __future__ import annotations

import random
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
"""Retries that may be saved up, and earned by each answer that is complete, a long one by each
:data:`PROGRESS_BYTES` of it: the figures and rules of AWS's standard retry mode, for which a body
is no success before it is there. An origin that fails every request soon gets no repeated ones."""

PROGRESS_BYTES = 1 << 20
"""Bytes that make up for what failed before them."""

_THROTTLED_PAUSE_SECONDS = 0.5

_RESTART_PAUSE_SECONDS = 0.5
"""An origin that refuses connections is being restarted, more likely than not. A body that has
begun can wait for that, as its player has a buffer; one that has not is better answered soon."""

_SUSPENDED_PAUSE_SECONDS = 1.0
"""An open circuit stays so for a second at least. A broken body has time to wait for its end."""

Uniform = Callable[[float, float], float]
"""A random number between two bounds."""


NOT_SENT = (OriginBusy, OriginSuspended)
"""The origin was not asked: it cost nothing, and says nothing."""

RESUMABLE = (
    OriginProtocolError,
    OriginServerError,
    OriginBusy,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
"""Worth another attempt at a body. The others say that it would fail again, or that the version is
gone."""

OF_A_CONNECTION = (OriginBodyError, OriginTimeout, OriginUnreachable)
"""May be about the connection alone. Others that were kept are perhaps no better: origins close
them by the dozen, so the next attempt goes over a new one."""


def reason_to_retry(error: OriginError) -> str | None:
    """What a retry after this error is counted as; ``None``: it would only fail again."""
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


class RetryTokens:
    """The budget of all requests to one endpoint together."""

    def __init__(self) -> None:
        self._tokens = MAX_TOKENS

    def succeeded(self, after: OriginError | None = None) -> None:
        """An answer is complete, or has come far. A retry ``after`` an error has been worth its
        price, which is given back.
        """
        earned = _price(after) if after is not None else 0.0
        self._tokens = min(self._tokens + (earned or TOKENS_PER_SUCCESS), MAX_TOKENS)

    def take(self, error: OriginError) -> bool:
        """Whether a retry after ``error`` is affordable; if so, it is paid for."""
        price = _price(error)
        if self._tokens < price:
            return False
        self._tokens -= price
        return True


def _price(error: OriginError) -> float:
    """What a retry after ``error`` costs."""
    if isinstance(error, NOT_SENT):
        return 0.0  # the attempt that was not sent was paid for, or the first
    # What took a whole deadline to fail says more about the origin than a closed connection.
    return 2.0 if isinstance(error, OriginTimeout) else 1.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Requests for one answer at most, resumes of a body in a row, and the bounds of the pause
    before each attempt but the first, in seconds.
    """

    max_attempts: int
    max_resumes: int
    min_pause_seconds: float = 0.05
    max_pause_seconds: float = 2.0
    turn_seconds: float = 30.0
    """How long a response that has begun waits until an attempt can be sent: for a circuit that is
    open, for room, for tokens."""


class Pauses:
    """The pauses of one request: decorrelated jitter, so that those who failed together do not
    come back together (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
    """

    def __init__(self, policy: RetryPolicy, uniform: Uniform = random.uniform) -> None:
        self._policy = policy
        self._uniform = uniform
        self._last = policy.min_pause_seconds
        self._fresh = True

    def next(self, cause: OriginError, *, patient: bool = False) -> float:
        """The seconds to wait before the next attempt, more of them if ``patient``.

        None before the first, if all that happened was that a connection ended: most likely the
        origin had just closed it for having been idle, which says nothing about the origin.
        """
        policy = self._policy
        fresh, self._fresh = self._fresh, False
        suspended = isinstance(cause, OriginSuspended)
        ended = isinstance(cause, OriginUnreachable) and not cause.connecting
        if fresh and ended and not suspended:
            return 0.0
        low = policy.min_pause_seconds
        if suspended:
            low = min(max(low, _SUSPENDED_PAUSE_SECONDS), policy.max_pause_seconds)
        elif isinstance(cause, OriginThrottled):
            low = min(max(low, _THROTTLED_PAUSE_SECONDS), policy.max_pause_seconds)
        elif patient and isinstance(cause, OriginUnreachable) and cause.connecting:
            # Whatever the dice say, six of them outlast a restart of some seconds.
            low = min(max(low, _RESTART_PAUSE_SECONDS, self._last * 2), policy.max_pause_seconds)
        high = max(self._last * 3, low)
        self._last = min(policy.max_pause_seconds, self._uniform(low, high))
        return self._last

    def restart(self) -> None:
        """Begin anew with short pauses: there was progress."""
        self._last = self._policy.min_pause_seconds
        self._fresh = True
