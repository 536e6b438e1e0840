"""One attempt at an answer of the origin: what all who take part in it need to know.

It is passed as a parameter, from :mod:`rangeserver.origin.resuming`, which decides that there is an
attempt, down to :mod:`rangeserver.origin.pool`, which sends its requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from rangeserver.origin.base import ReadReport
from rangeserver.origin.deadlines import Deadline
from rangeserver.origin.retrying import PROGRESS_BYTES, RetryTokens


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt on behalf of the response of ``report``.

    ``new_connection``: its requests use no connection that was used before. ``deadline`` is the
    innermost one. Success earns retries in ``tokens``: ``refund`` is what this attempt has cost.
    """

    report: ReadReport = field(default_factory=ReadReport)
    new_connection: bool = False
    deadline: Deadline | None = None
    tokens: RetryTokens = field(default_factory=RetryTokens)
    refund: float = 0.0

    def over_new_connection(self) -> Attempt:
        """The same, with requests that use no connection that was used before."""
        return replace(self, new_connection=True)

    def within(self, deadline: Deadline) -> Attempt:
        """The same, with an inner deadline."""
        return replace(self, deadline=deadline)

    def timed_out(self, error: BaseException) -> bool:
        """Whether a request was cancelled by a deadline, and not because its client left."""
        cancelled = isinstance(error, asyncio.CancelledError)
        return cancelled and self.deadline is not None and self.deadline.expired()

    def succeeded(self) -> None:
        """Earn tokens for a complete answer."""
        self.tokens.earn(self.refund)

    def earnings(self, length: int) -> BodyEarnings:
        """What a body of ``length`` bytes earns as it comes."""
        return BodyEarnings(self, length)


class BodyEarnings:
    """Tokens that a body earns: for each :data:`PROGRESS_BYTES`, and at its end."""

    __slots__ = ("_left", "_refund", "_tokens", "_unpaid")

    def __init__(self, attempt: Attempt, length: int) -> None:
        self._tokens = attempt.tokens
        self._refund = attempt.refund
        self._left = length
        self._unpaid = 0

    def received(self, count: int) -> None:
        """Bytes of it have come."""
        self._left -= count
        self._unpaid += count
        if self._unpaid >= PROGRESS_BYTES or not self._left:
            self._tokens.earn(self._refund)
            self._unpaid, self._refund = 0, 0.0
