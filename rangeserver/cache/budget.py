"""How much may be on its way from the origin at a time, in bytes, and how much of it for whom.

Each client may have so many times what is left for all (dynamic thresholds, as switches share
their buffers; Choudhury and Hahne, 1998): alone it has three quarters, two have three sevenths
each, and there is always something left for one more. Nobody needs to know how many there are.
"""

from __future__ import annotations

import asyncio

from rangeserver.errors import OriginBusy
from rangeserver.origin.fair_queue import FairQueue

_TIMES_WHAT_IS_LEFT = 3


class Budget:
    """Bytes that were asked for and have not come. Those that somebody waits for go first, those
    of the client who has least before all; reading ahead takes only what nobody waits for.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._queue: FairQueue[_Waiter] = FairQueue()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def try_take(self, client: str, count: int) -> bool:
        """Take bytes if they are free, and nobody waits who comes before this client."""
        first = self._queue.first()
        if first is not None and self._queue.held[first[0]] <= self._queue.held[client]:
            return False
        if not self._fits(client, count):
            return False
        self._take(client, count)
        return True

    async def take(self, client: str, count: int, *, within: float) -> None:
        """Take bytes, more than there are if none are taken; raises :class:`OriginBusy` if that
        cannot be within so many seconds.
        """
        waiter = _Waiter(count)
        self._queue.wait(client, waiter)
        self._let_in()
        if waiter.turn.done():
            return
        try:
            async with asyncio.timeout(within):
                await waiter.turn
        except BaseException as error:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.give(client, count)  # it was our turn in the same moment
            else:
                self._queue.leave(client, waiter)
                self._let_in()
            if isinstance(error, TimeoutError):
                msg = f"no room within {within:g} s for {count} more bytes on their way"
                raise OriginBusy(msg, headers={"Retry-After": "1"}) from None
            raise

    def give(self, client: str, count: int) -> None:
        """Bytes have come, or will not."""
        self.taken -= count
        self._queue.give(client, count)
        self._let_in()

    def _take(self, client: str, count: int) -> None:
        self.taken += count
        self._queue.take(client, count)

    def _fits(self, client: str, count: int) -> bool:
        left = self.limit - self.taken - count
        held = self._queue.held[client]
        if not held:
            return left >= 0 or not self.taken
        return held + count <= _TIMES_WHAT_IS_LEFT * left

    def _let_in(self) -> None:
        while (first := self._queue.first()) is not None:
            client, waiter = first
            left = waiter.turn.done()
            if not left and not self._fits(client, waiter.count):
                break
            self._queue.leave(client, waiter)
            if not left:
                self._take(client, waiter.count)
                waiter.turn.set_result(None)


class _Waiter:
    """Somebody who needs ``count`` bytes."""

    __slots__ = ("count", "turn")

    def __init__(self, count: int) -> None:
        self.count = count
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
