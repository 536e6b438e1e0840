"""The attempts of fills that one reader waits for, and the budget of its response.

Readers that wait for the same bytes share the attempts. Each attempt that fails is charged to the
budget of every response that waited for it, and a reader gives up when its own budget is spent.
"""

from __future__ import annotations

import asyncio

from rangeserver.cache.fill import Fill
from rangeserver.errors import OriginError
from rangeserver.origin.attempts import Retries
from rangeserver.origin.base import ReadReport


class Demand:
    """The attempts that the response of ``report`` has waited for.

    ``in_trouble``: an attempt has failed, at bytes that it waits for or that were prefetched.
    Nothing more is prefetched until bytes come that it waits for.
    """

    __slots__ = ("_failure", "_known", "_report", "_retries", "in_trouble")

    def __init__(self, retries: Retries, report: ReadReport) -> None:
        self.in_trouble = False
        self._retries = retries
        self._report = report
        self._failure: OriginError | None = None
        """The error of the last attempt, until bytes come."""
        self._known: tuple[Fill, int] | None = None
        """The fill that was waited for last, and how many of its attempts had failed by then."""

    async def wait(self, fill: Fill, position: int) -> None:
        """Wait until bytes at ``position`` have come, or an attempt has failed."""
        fill.needed_by(self._report)
        self._known = fill, fill.failed
        await fill.wait_past(position)

    def has_failed(self, fill: Fill) -> bool:
        """Whether an attempt has failed that is not charged yet: also one of another reader, or
        while this one did not wait. Attempts that failed before it joined the fill do not count.
        """
        if self._known is not None and self._known[0] is fill:
            return fill.failed > self._known[1]
        return fill.failed > 0 and fill.is_for(self._report)

    async def failed(self, fill: Fill, error: OriginError) -> None:
        """Charge a failed attempt, and pause. Raises ``error`` if no attempt is left."""
        self.in_trouble = True
        self._failure, self._known = error, (fill, fill.failed)
        pause = self._retries.pause_after(error, self._report)
        if pause is None:
            raise error.again()
        await asyncio.sleep(pause)

    async def is_paid(self) -> bool:
        """Whether another attempt may be sent now. ``False``: look at the fill again, as this has
        waited for its turn and another reader may have asked meanwhile. Raises the last error if
        there is no other attempt.

        Only what is waited for is repeated. After a failed prefetch one attempt is free.
        """
        if self._failure is None or self._retries.pay(self._failure, self._report):
            return True
        turn = self._retries.turn(self._failure, self._report)
        if turn is None:
            raise self._failure.again()
        await asyncio.sleep(turn)
        return False

    def met(self) -> None:
        """The bytes have come that were waited for."""
        self._failure, self.in_trouble = None, False
