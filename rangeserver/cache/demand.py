"""What one reader has to do with the attempts of fills at the bytes that it needs.

Each that fails is charged to the budget of its response, whichever reader asked for it: those who
wait for the same bytes share the attempts, and each gives up when its own budget is spent.
"""

from __future__ import annotations

import asyncio

from rangeserver.cache.fill import Fill
from rangeserver.errors import OriginError
from rangeserver.origin.attempts import Retries
from rangeserver.origin.base import ReadReport


class Demand:
    """The attempts that the response of ``report`` has waited for.

    ``in_trouble`` says that the origin has failed it, or what is read ahead for it: nothing more is
    read ahead until bytes come that were waited for.
    """

    __slots__ = ("_failure", "_known", "_report", "_retries", "in_trouble")

    def __init__(self, retries: Retries, report: ReadReport) -> None:
        self.in_trouble = False
        self._retries = retries
        self._report = report
        self._failure: OriginError | None = None
        """What the last attempt failed for, until bytes come."""
        self._known: tuple[Fill, int] | None = None
        """The fill that was waited for last, and how many of its attempts had failed by then."""

    async def wait(self, fill: Fill, position: int) -> None:
        """Wait for bytes at a position, or news of them."""
        fill.needed_by(self._report)
        self._known = fill, fill.failed
        await fill.wait_past(position)

    def has_failed(self, fill: Fill) -> bool:
        """Whether an attempt has failed that is not accounted for: also one of another reader's,
        or while this one did not wait. What failed before it came to the fill is no concern of its
        own.
        """
        if self._known is not None and self._known[0] is fill:
            return fill.failed > self._known[1]
        return fill.failed > 0 and fill.is_for(self._report)

    async def failed(self, fill: Fill, error: OriginError) -> None:
        """Account for it, and pause; raises the error if there is no attempt left."""
        self.in_trouble = True
        self._failure, self._known = error, (fill, fill.failed)
        pause = self._retries.pause_after(error, self._report)
        if pause is None:
            raise error.again()
        await asyncio.sleep(pause)

    async def is_paid(self) -> bool:
        """Whether another attempt may be sent; if not, it is to be looked at again: a turn was
        waited for, and others may have asked meanwhile. Raises the error of before if there is
        none.

        Only what was waited for is repeated. That read-ahead failed is worth one attempt.
        """
        if self._failure is None or self._retries.pay(self._failure, self._report):
            return True
        turn = self._retries.turn(self._failure, self._report)
        if turn is None:
            raise self._failure.again()
        await asyncio.sleep(turn)
        return False

    def met(self) -> None:
        """The bytes that were waited for have come."""
        self._failure, self.in_trouble = None, False
