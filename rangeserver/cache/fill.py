"""The fetch of a run of blocks: one GET, for everybody who needs one of them.

It belongs to the server. Whoever began it may leave; it goes on while anyone reads from it, and
feeds all of them as the bytes come in. One that nobody reads from any more ends with the block
it is at, or after :data:`LINGER_SECONDS` if that has not come by then.

An attempt that fails leaves it broken, with all that was written. Whether there is another is
decided by those who wait, each out of the budget of its own response: the first that asks for one
begins it, at the next byte, and the others join.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from rangeserver.cache.block_lock import BlockLock
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import CacheFailed, NoRoom
from rangeserver.cache.means import Means
from rangeserver.errors import OriginError, OriginProtocolError, OriginRecalled
from rangeserver.origin.base import ReadReport, current_client, current_report, reporting
from rangeserver.origin.retrying import RESUMABLE
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

LINGER_SECONDS = 0.05
_FIRST_READER_SECONDS = 1.0
"""The fill of an object that was just asked for, until its first reader comes."""

_BROKEN_SECONDS = 3.0
"""How long a broken one waits to be wanted again: longer than those pause who want it."""

Source = Callable[[ByteSpan, OriginError | None], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Makes one attempt at a span of the version that an entry is of; given what the last one failed
for, if there was one.
"""


class Fill:
    """Fetches blocks ``[first, stop)`` of an entry; the bytes before ``filled_to`` are written."""

    def __init__(
        self,
        means: Means,
        entry: Entry,
        run: tuple[int, int],
        source: Source,
        *,
        ahead: bool = False,
    ) -> None:
        self.first, self.stop = run
        self.filled_to = entry.layout.start(self.first)
        self.error: OriginError | CacheFailed | None = None
        """What the last attempt failed for."""
        self.failed = 0
        """How many attempts have."""
        self.over = False
        self.fetching = False
        """Whether the origin was asked: the blocks were not in the file."""
        self.task: asyncio.Task[None] | None = None
        self._means = means
        self._entry = entry
        self._readers: set[object] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._report = current_report().shared(ahead=ahead)
        self._client = current_client()
        self._source = source
        self._lock = BlockLock(means, entry)
        self._wanted: asyncio.Future[None] | None = None
        self._reserved = 0
        self._checksum = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unwanted = False
        for block in range(self.first, self.stop):
            entry.filling[block] = self

    def begin(self, *, reserved: int) -> None:
        """Look for the blocks and fetch what is missing; ``reserved`` bytes of the budget were
        taken for it.
        """
        self._reserved = reserved
        self._start(self._find_or_fetch())

    async def adopt(self, parts: AsyncIterator[bytes], start: int, opened: AsyncExitStack) -> None:
        """Take over a read from ``start`` on that has begun, and that ``opened`` closes; returns
        when the blocks are locked. Its first reader is still to come.
        """
        locked = asyncio.Event()
        self._start(self._take_over(parts, start, opened, locked))
        self._linger(_FIRST_READER_SECONDS)
        await locked.wait()

    def attach(self, reader: object) -> None:
        """Somebody will read from it."""
        self._readers.add(reader)
        self._unwanted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def broken(self) -> bool:
        """Whether an attempt has failed, and there is none until somebody wants it."""
        return self._wanted is not None

    def again(self) -> None:
        """Make another attempt at what is missing. For one that is :attr:`broken`."""
        assert self._wanted is not None
        if not self._wanted.done():
            self._wanted.set_result(None)
        self._wanted = None

    def is_for(self, report: ReadReport) -> bool:
        """Whether it was begun for just this response, and not to read ahead."""
        return not self._report.ahead and self._report.asker is report

    def needed_by(self, report: ReadReport) -> None:
        """A response waits for it."""
        self._report.ahead = False
        self._report.begun = self._report.begun or report.begun

    def detach(self, reader: object) -> None:
        """Somebody will not, any more."""
        self._readers.discard(reader)
        if not self._readers and not self.over:
            self._unwanted = True
            self._linger(LINGER_SECONDS)

    def truncate(self, block: int) -> int:
        """End before ``block`` instead, so that somebody who needs it need not wait for all that
        comes before; where it would have ended. For one that is :attr:`fetching`.
        """
        stop = self.stop
        assert self.first < block < stop
        self._lock.truncate(block)
        self._narrow(block)
        self._give_back(max(self._reserved - (self._span().stop - self.filled_to), 0))
        return stop

    async def wait_past(self, position: int) -> None:
        """Wait for news, unless it is further than ``position`` already, or over: that bytes were
        written, or that an attempt has failed.
        """
        if self.filled_to > position or self.over:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.task = asyncio.get_running_loop().create_task(self._run(work))
        self._means.tasks.add(self.task)
        self.task.add_done_callback(self._means.tasks.discard)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            with reporting(self._report):
                await work
        except OSError as error:
            if self._entry.file.gone:
                pass  # its readers go on with another
            elif error.errno == errno.EIO and not self.fetching:
                self._means.unreadable(self._entry, error)
            else:
                self._means.write_failed(error, self._entry)
            self.error = CacheFailed(str(error))
        except OriginError as error:
            self.error = error.again()  # what was raised leads back to here, and to open files
        except (CacheFailed, NoRoom) as error:
            self.error = CacheFailed(str(error))
        except Exception as error:  # readers would wait, or begin the same again
            log.exception("cache: a fetch of %s failed", self._entry.cache_key)
            self.error = CacheFailed(str(error))
        finally:
            self._end()

    def _end(self) -> None:
        self.over = True
        self._wanted = None
        self.task = None  # one that was cancelled keeps the error, whose way leads back to here
        self._give_back(self._reserved)
        if self._timer is not None:
            self._timer.cancel()
        self._narrow(self.first)
        self._readers.clear()  # they may hold this
        self._wake()

    async def _find_or_fetch(self) -> None:
        if self._is_ours(await self._lock.take(self.first, self.stop)):
            try:
                await self._fetch(AsyncExitStack(), None)
            finally:
                self._lock.release()

    def _is_ours(self, run: tuple[int, int] | None) -> bool:
        """Whether blocks were locked; those that were left to others meanwhile are freed."""
        if run is None:
            return False
        if self.stop < run[1]:
            self._lock.truncate(self.stop)
        self._narrow(min(self.stop, run[1]))
        return True

    async def _fetch(
        self, opened: AsyncExitStack, parts: AsyncIterator[bytes] | None, start: int = 0
    ) -> None:
        """Attempt after attempt, for as long as they are wanted; the first may have begun with
        ``parts`` from ``start`` on, which closing ``opened`` closes.
        """
        self.fetching = True
        while True:
            try:
                async with opened:
                    await self._reserve()
                    if parts is None:
                        rest = ByteSpan(self.filled_to, self._span().stop)
                        attempt = self._source(rest, self._origin_error())
                        parts, start = await opened.enter_async_context(attempt), rest.start
                    await self._take(parts, start)
            except OriginRecalled:
                self.error = None  # it is nobody's fault, and goes on when it is its turn
            except RESUMABLE as error:
                await self._wanted_again(error.again())
            else:
                self.error = None
                return
            opened, parts = AsyncExitStack(), None

    async def _wanted_again(self, failure: OriginError) -> None:
        """Be broken until another attempt is wanted; raises what the last one failed for if none
        is.
        """
        self._give_back(self._reserved)
        self.error, self.failed = failure, self.failed + 1
        self._wanted = wanted = asyncio.get_running_loop().create_future()
        self._wake()
        try:
            async with asyncio.timeout(_BROKEN_SECONDS):
                await wanted
        except TimeoutError:
            raise failure from None
        finally:
            del failure  # or it and this frame hold each other, and all that waits above

    def _origin_error(self) -> OriginError | None:
        return self.error if isinstance(self.error, OriginError) else None

    def _span(self) -> ByteSpan:
        """The bytes to come."""
        return self._entry.layout.span(self.first, self.stop)

    async def _reserve(self) -> None:
        """Have the budget taken for just the bytes to come."""
        needed = self._span().stop - self.filled_to
        if self._reserved > needed:
            self._give_back(self._reserved - needed)
        elif self._reserved < needed:
            more = needed - self._reserved
            await self._means.budget.take(self._client, more, within=self._means.wait_seconds)
            self._reserved += more

    async def _take_over(
        self,
        parts: AsyncIterator[bytes],
        start: int,
        opened: AsyncExitStack,
        locked: asyncio.Event,
    ) -> None:
        wanted = (self.first, self.stop)
        async with opened:
            try:
                run = await self._lock.try_take(self.first, self.stop)
            finally:
                locked.set()
            try:
                # If not, another process has them, or is at it.
                if self._is_ours(run) and run == wanted:
                    await self._fetch(opened.pop_all(), parts, start)
            finally:
                self._lock.release()

    async def _take(self, parts: AsyncIterator[bytes], position: int) -> None:
        """Write what comes from ``position`` on, and let it be read as soon as it is written."""
        async for part in parts:
            # Less is wanted of it than was asked for where others have blocks of their own.
            begin = max(self.filled_to - position, 0)
            end = max(self._span().stop - position, 0)
            position += len(part)
            data = memoryview(part)[begin:end]
            if not data:
                continue
            done = await self._means.write(len(data), self._write, data, self.filled_to)
            self._give_back(min(len(data), self._reserved))
            self.filled_to += len(data)
            for block in done:
                self._entry.has(block)
            self._wake()
            if self.filled_to >= self._span().stop or (done and self._unwanted):
                return
        msg = f"{self._span().stop - self.filled_to} bytes are missing"
        raise OriginProtocolError(msg)

    def _write(self, data: memoryview, offset: int) -> list[int]:
        """Write bytes and the records of the blocks that are complete with them, in a thread;
        those blocks.
        """
        layout, file = self._entry.layout, self._entry.file
        file.write(data, offset)
        done = []
        while data:
            block = offset // layout.block_bytes
            piece = data[: layout.start(block + 1) - offset]
            self._checksum = zlib.crc32(piece, self._checksum)
            offset += len(piece)
            data = data[len(piece) :]
            if offset == layout.start(block + 1):
                file.record(block, self._checksum)
                self._checksum = 0
                done.append(block)
        return done

    def _narrow(self, stop: int) -> None:
        """Let go of the blocks from ``stop`` on."""
        filling = self._entry.filling
        for block in range(stop, self.stop):
            if filling.get(block) is self:
                del filling[block]
        if stop != self.stop:
            self.stop = stop
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _give_back(self, count: int) -> None:
        if count:
            self._reserved -= count
            self._means.budget.give(self._client, count)

    def _linger(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._abandon)

    def _abandon(self) -> None:
        self._timer = None
        if not self._readers and self.task is not None:
            self.task.cancel()
