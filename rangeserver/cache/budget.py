"""The bytes that may be on their way from the origin at a time, shared fairly between clients.

A client may have up to alpha times what is still free (dynamic thresholds, as switches share their
buffers; Choudhury and Hahne, 1998). With alpha = 3, one client gets three quarters, two get three
sevenths each, and something is always left for one more. The number of clients need not be known.
"""

from __future__ import annotations

import asyncio

from rangeserver.errors import OriginBusy
from rangeserver.origin.fair_queue import FairQueue

_ALPHA = 3


class Budget:
    """Bytes that were requested and have not arrived; at most ``limit``.

    Reads that a response waits for go first, of these the client that holds least. Prefetching gets
    only what no response waits for.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._queue: FairQueue[_Waiter] = FairQueue()

    @property
    def waiting(self) -> int:
        """How many reads wait for their turn."""
        return len(self._queue)

    def try_take(self, client: str, count: int) -> bool:
        """Take bytes if they are free and no waiting client comes before this one."""
        first = self._queue.first()
        if first is not None and self._queue.held[first[0]] <= self._queue.held[client]:
            return False
        if not self._fits(client, count):
            return False
        self._take(client, count)
        return True

    async def take(self, client: str, count: int, *, within: float) -> None:
        """Wait for a turn and take bytes; more than the limit if nothing else is taken.

        Raises :class:`OriginBusy` if the turn does not come within so many seconds.
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
        """Give bytes back: they have arrived, or will not."""
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
        return held + count <= _ALPHA * left

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
    """A read that needs ``count`` bytes."""

    __slots__ = ("count", "turn")

    def __init__(self, count: int) -> None:
        self.count = count
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
