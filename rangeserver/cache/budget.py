"""How much may be on its way from the origin at a time, in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from rangeserver.errors import OriginBusy


class Budget:
    """Bytes that were asked for and have not come. Those that a client waits for go first: they
    are taken in the order asked for, and reading ahead takes only what nobody waits for.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """What reading ahead may still take."""
        return 0 if self._waiting else self.limit - self.taken

    def try_take(self, count: int) -> bool:
        """Take bytes if they are free."""
        if count > self.free:
            return False
        self.taken += count
        return True

    async def take(self, count: int, *, within: float) -> None:
        """Take bytes, more than there are if none are taken; raises :class:`OriginBusy` if that
        cannot be within so many seconds.
        """
        if not self._waiting and self._fits(count):
            self.taken += count
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (count, turn)
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(within):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give(count)  # it was our turn in the same moment
            else:
                # Whoever gave bytes back in the meantime may have thrown it out already.
                with suppress(ValueError):
                    self._waiting.remove(waiting)
                self._let_in()
            if isinstance(error, TimeoutError):
                msg = f"no room within {within:g} s for {count} more bytes on their way"
                raise OriginBusy(msg, headers={"Retry-After": "1"}) from None
            raise

    def give(self, count: int) -> None:
        """Bytes have come, or will not."""
        self.taken -= count
        self._let_in()

    def _fits(self, count: int) -> bool:
        return self.taken + count <= self.limit or not self.taken

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            count, turn = self._waiting.popleft()
            if not turn.done():
                self.taken += count
                turn.set_result(None)
