"""Fetches a run of blocks from the origin into a cache file: the work behind a :class:`Fill`.

One GET serves all readers of the run. The task belongs to the server, not to the response that
caused it.

A failed attempt keeps what was written. Whether another attempt is made is decided by the waiting
readers, each out of the retry budget of its own response: the first one that asks for it starts it,
at the next byte, and the others share it.
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
from rangeserver.cache.cache import Cache
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import CacheFailed, NoRoom
from rangeserver.cache.fill import Fill
from rangeserver.errors import OriginError, OriginProtocolError, OriginRecalled
from rangeserver.origin.base import current_client, current_report, reporting
from rangeserver.origin.retrying import RESUMABLE
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

_FIRST_READER_SECONDS = 1.0
"""How long an adopted read continues without a reader: the response that caused it comes next."""

Source = Callable[[ByteSpan, OriginError | None], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Makes one attempt to read a span of the entry's version; its second argument is the error of the
attempt before, if there was one.
"""


def begin_fill(
    cache: Cache,
    entry: Entry,
    run: tuple[int, int],
    source: Source,
    *,
    reserved: int,
    ahead: bool = False,
) -> Fill:
    """Fetch the blocks ``[first, stop)`` that are not in the file.

    ``reserved`` bytes of the budget were taken for it. ``ahead``: no response waits for it yet.
    """
    transfer = _Transfer(cache, entry, run, source, ahead=ahead)
    transfer.begin(reserved)
    return transfer.fill


async def adopt_read(
    cache: Cache,
    entry: Entry,
    run: tuple[int, int],
    source: Source,
    *,
    parts: AsyncIterator[bytes],
    start: int,
    opened: AsyncExitStack,
) -> Fill:
    """Fetch the blocks ``[first, stop)`` from a read that has begun at offset ``start``; closing
    ``opened`` ends that read.

    Returns once the blocks are locked. The first reader is still to come.
    """
    transfer = _Transfer(cache, entry, run, source)
    await transfer.adopt(parts, start, opened)
    return transfer.fill


class _Transfer:
    """The task of one fill, and what it holds: a lock, reserved bytes, the origin's response."""

    def __init__(
        self,
        cache: Cache,
        entry: Entry,
        run: tuple[int, int],
        source: Source,
        *,
        ahead: bool = False,
    ) -> None:
        report = current_report().shared(ahead=ahead)
        self.fill = Fill(run, entry.layout.start(run[0]), report, shorten=self._shorten)
        self._cache = cache
        self._entry = entry
        self._source = source
        self._report = report
        self._client = current_client()
        self._lock = BlockLock(cache, entry)
        self._reserved = 0
        self._checksum = 0
        """Of what is written of the current block."""
        entry.add_fill(self.fill)

    def begin(self, reserved: int) -> None:
        self._reserved = reserved
        self._start(self._find_or_fetch())

    async def adopt(self, parts: AsyncIterator[bytes], start: int, opened: AsyncExitStack) -> None:
        locked = asyncio.Event()
        self._start(self._fetch_adopted(parts, start, opened, locked))
        self.fill.linger(_FIRST_READER_SECONDS)
        await locked.wait()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(work))
        self.fill.task = task
        self._cache.tasks.add(task)
        task.add_done_callback(self._cache.tasks.discard)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        fill, cache, entry = self.fill, self._cache, self._entry
        try:
            with reporting(self._report):
                await work
        except OSError as error:
            if entry.file.gone:
                pass  # its readers continue with another file
            elif error.errno == errno.EIO and not fill.fetching:
                cache.unreadable(entry, error)
            else:
                cache.write_failed(error, entry)
            fill.error = CacheFailed(str(error))
        except OriginError as error:
            fill.error = error.again()  # the traceback of what was raised holds open files
        except (CacheFailed, NoRoom) as error:
            fill.error = CacheFailed(str(error))
        except Exception as error:  # readers would wait, or begin the same again
            log.exception("cache: a fetch of %s failed", entry.cache_key)
            fill.error = CacheFailed(str(error))
        finally:
            self._give_back(self._reserved)
            entry.remove_fill(fill, fill.first)
            fill.end()

    async def _find_or_fetch(self) -> None:
        fill = self.fill
        if self._is_locked(await self._lock.take(fill.first, fill.stop)):
            try:
                await self._fetch(AsyncExitStack(), None)
            finally:
                self._lock.release()

    async def _fetch_adopted(
        self,
        parts: AsyncIterator[bytes],
        start: int,
        opened: AsyncExitStack,
        locked: asyncio.Event,
    ) -> None:
        wanted = (self.fill.first, self.fill.stop)
        async with opened:
            try:
                run = await self._lock.try_take(*wanted)
            finally:
                locked.set()
            try:
                # If it is shorter, another process has the others, or fetches them.
                if self._is_locked(run) and run == wanted:
                    await self._fetch(opened.pop_all(), parts, start)
            finally:
                self._lock.release()

    def _is_locked(self, run: tuple[int, int] | None) -> bool:
        """Whether blocks were locked. The fill is shortened to these; locked ones that it has been
        shortened by meanwhile are unlocked.
        """
        if run is None:
            return False
        if self.fill.stop < run[1]:
            self._lock.truncate(self.fill.stop)
        self._narrow(min(self.fill.stop, run[1]))
        return True

    async def _fetch(
        self, opened: AsyncExitStack, parts: AsyncIterator[bytes] | None, start: int = 0
    ) -> None:
        """Make attempts as long as they are wanted. The first may have begun: ``parts`` from offset
        ``start`` on, ended by closing ``opened``.
        """
        fill = self.fill
        fill.fetching = True
        while True:
            try:
                async with opened:
                    await self._reserve()
                    if parts is None:
                        rest = ByteSpan(fill.filled_to, self._span().stop)
                        last = fill.error if isinstance(fill.error, OriginError) else None
                        parts = await opened.enter_async_context(self._source(rest, last))
                        start = rest.start
                    await self._write_parts(parts, start)
            except OriginRecalled:
                fill.error = None  # nobody's fault: it continues when it is its turn
            except RESUMABLE as error:
                self._give_back(self._reserved)
                await fill.wait_for_retry(error.again())
            else:
                fill.error = None
                return
            opened, parts = AsyncExitStack(), None

    def _span(self) -> ByteSpan:
        return self._entry.layout.span(self.fill.first, self.fill.stop)

    async def _reserve(self) -> None:
        """Have reserved in the budget exactly the bytes that are still to come."""
        needed = self._span().stop - self.fill.filled_to
        if self._reserved > needed:
            self._give_back(self._reserved - needed)
        elif self._reserved < needed:
            more = needed - self._reserved
            await self._cache.budget.take(self._client, more, within=self._cache.wait_seconds)
            self._reserved += more

    async def _write_parts(self, parts: AsyncIterator[bytes], position: int) -> None:
        """Write what comes from ``position`` on; readers get each part as soon as it is written."""
        fill = self.fill
        async for part in parts:
            # Less is written than was asked for where other fills or processes have the rest.
            begin = max(fill.filled_to - position, 0)
            end = max(self._span().stop - position, 0)
            position += len(part)
            data = memoryview(part)[begin:end]
            if not data:
                continue
            done = await self._cache.write(len(data), self._write, data, fill.filled_to)
            self._give_back(min(len(data), self._reserved))
            for block in done:
                self._entry.has(block)
            fill.advance(len(data))
            if fill.filled_to >= self._span().stop or (done and fill.abandoned):
                return
        msg = f"{self._span().stop - fill.filled_to} bytes are missing"
        raise OriginProtocolError(msg)

    def _write(self, data: memoryview, offset: int) -> list[int]:
        """Write bytes, and the records of the blocks that they complete; returns these blocks.
        Called in a thread.
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

    def _shorten(self, stop: int) -> None:
        """End before the block ``stop``: called by a reader, while the lock is held."""
        self._lock.truncate(stop)
        self._narrow(stop)
        self._give_back(max(self._reserved - (self._span().stop - self.fill.filled_to), 0))

    def _narrow(self, stop: int) -> None:
        self._entry.remove_fill(self.fill, stop)
        self.fill.narrow(stop)

    def _give_back(self, count: int) -> None:
        if count:
            self._reserved -= count
            self._cache.budget.give(self._client, count)
