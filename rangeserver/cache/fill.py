"""A run of blocks on its way into a cache file, as readers see it: how far it is, what went wrong.

A fill belongs to the server: the reader that caused it may leave. It continues while anyone reads
from it, and all of them read what has been written. Without readers it ends with the current
block, or after :data:`LINGER_SECONDS` if that block is not complete by then.

:mod:`rangeserver.cache.transfer` does the work. A fill knows neither the file nor the origin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rangeserver.cache.errors import CacheFailed
from rangeserver.errors import OriginError
from rangeserver.origin.base import ReadReport

LINGER_SECONDS = 0.05

_RETRY_WAIT_SECONDS = 3.0
"""How long a broken fill waits for a reader to ask for another attempt: longer than the pause that
readers make before they do.
"""


class Fill:
    """Blocks ``[first, stop)`` on their way; the bytes before ``filled_to`` are in the file."""

    def __init__(
        self,
        run: tuple[int, int],
        filled_to: int,
        report: ReadReport,
        *,
        shorten: Callable[[int], object],
    ) -> None:
        """``shorten`` makes the transfer end before a block."""
        self.first, self.stop = run
        self.filled_to = filled_to
        self.error: OriginError | CacheFailed | None = None
        """Of the last attempt."""
        self.failed = 0
        """How many attempts have failed."""
        self.over = False
        self.fetching = False
        """Whether the origin was asked: the blocks were not in the file."""
        self.abandoned = False
        """Whether all readers have left."""
        self.task: asyncio.Task[None] | None = None
        """The transfer."""
        self._report = report
        self._shorten: Callable[[int], object] | None = shorten
        self._readers: set[object] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._retry_wanted: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # Called by readers

    def attach(self, reader: object) -> None:
        """Add a reader."""
        self._readers.add(reader)
        self.abandoned = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def detach(self, reader: object) -> None:
        """Remove a reader."""
        self._readers.discard(reader)
        if not self._readers and not self.over:
            self.abandoned = True
            self.linger(LINGER_SECONDS)

    async def wait_past(self, position: int) -> None:
        """Wait until bytes were written or an attempt has failed. Returns at once if the fill is
        past ``position`` or over.
        """
        if self.filled_to > position or self.over:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    @property
    def broken(self) -> bool:
        """Whether an attempt has failed and no reader has asked for another."""
        return self._retry_wanted is not None

    def retry(self) -> None:
        """Make another attempt to fetch what is missing. Only for a :attr:`broken` fill."""
        assert self._retry_wanted is not None
        if not self._retry_wanted.done():
            self._retry_wanted.set_result(None)
        self._retry_wanted = None

    def is_for(self, report: ReadReport) -> bool:
        """Whether it was begun for this response because it waits, and not to read ahead."""
        return not self._report.ahead and self._report.asker is report

    def needed_by(self, report: ReadReport) -> None:
        """A response waits for it."""
        self._report.ahead = False
        self._report.begun = self._report.begun or report.begun

    def truncate(self, block: int) -> int:
        """End before ``block``, so that a reader who needs it need not wait for all bytes before
        it; returns the old end. Only for a fill that is :attr:`fetching`.
        """
        stop = self.stop
        assert self.first < block < stop
        assert self._shorten is not None
        self._shorten(block)
        return stop

    # Called by the transfer

    def advance(self, count: int) -> None:
        """More bytes were written."""
        self.filled_to += count
        self._wake()

    def narrow(self, stop: int) -> None:
        """The blocks from ``stop`` on do not belong to it any more."""
        if stop != self.stop:
            self.stop = stop
            self._wake()

    async def wait_for_retry(self, failure: OriginError) -> None:
        """Be broken until a reader asks for another attempt. Raises ``failure`` if none does."""
        self.error, self.failed = failure, self.failed + 1
        self._retry_wanted = wanted = asyncio.get_running_loop().create_future()
        self._wake()
        try:
            async with asyncio.timeout(_RETRY_WAIT_SECONDS):
                await wanted
        except TimeoutError:
            raise failure from None
        finally:
            del failure  # it and this frame would refer to each other, and keep the callers' frames

    def linger(self, seconds: float) -> None:
        """Cancel the transfer if no reader comes within so many seconds."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._cancel)

    def end(self) -> None:
        """The transfer has ended: wake all readers, and drop what refers back to it."""
        self.over = True
        self.stop = self.first
        self._retry_wanted = None
        self.task = None  # a cancelled task keeps its error, and with it the frames of the transfer
        self._shorten = None
        if self._timer is not None:
            self._timer.cancel()
        self._readers.clear()  # they may refer to this fill
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _cancel(self) -> None:
        self._timer = None
        if not self._readers and self.task is not None:
            self.task.cancel()
