"""The places for requests at the origin: as many as there are connections, and a bounded wait."""

from __future__ import annotations

import asyncio

from rangeserver.errors import OriginBusy
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.translate import RETRY_AFTER


class Slots:
    """``limit`` places; a request holds one from before it is sent until its body is done."""

    def __init__(self, limit: int, wait_seconds: float, metrics: OriginMetrics) -> None:
        self.limit = limit
        self.in_use = 0
        self._wait_seconds = wait_seconds
        self._metrics = metrics
        self._free = asyncio.Semaphore(limit)

    @property
    def full(self) -> bool:
        """Whether a request would have to wait."""
        return self._free.locked()

    async def acquire(self) -> None:
        """Take a place, or raise :class:`OriginBusy` after the deadline."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        self.in_use += 1
        self._metrics.in_use += 1

    async def _wait(self) -> None:
        self._metrics.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            msg = f"all {self.limit} origin connections are in use"
            raise OriginBusy(msg, headers=RETRY_AFTER) from None
        finally:
            self._metrics.waiting -= 1

    def release(self) -> None:
        """Give a place back."""
        self.in_use -= 1
        self._metrics.in_use -= 1
        self._free.release()
