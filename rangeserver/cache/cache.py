"""The cache of one process: what all its readers share."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from rangeserver.cache.admission import Admission
from rangeserver.cache.budget import Budget
from rangeserver.cache.cache_file import CacheFile, Claim
from rangeserver.cache.directory import Directory, reused, touch
from rangeserver.cache.disk import Disk
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile, NoRoom, UnreadableFile
from rangeserver.cache.header import Header
from rangeserver.cache.limits import Limits
from rangeserver.cache.metrics import CacheMetrics
from rangeserver.cache.moments import moment_of
from rangeserver.cache.passed_by import PassedBy, is_of_the_file
from rangeserver.cache.polling import Poller
from rangeserver.cache.space import NEW_FILE_BYTES
from rangeserver.cache.upkeep import Upkeep
from rangeserver.config import CacheConfig
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

P = ParamSpec("P")
T = TypeVar("T")

MAX_OPEN = 512
"""Files kept open at a time, where so many are allowed; those in use beyond it stay open until they
are not.
"""

_NOTED_SECONDS = 1.0
"""How often at most it is noted on the disk that an entry is current."""

_PURGE_SEEN_SECONDS = 0.01
"""So late it may be noticed that something was purged."""

_OTHERS_OPENING_SECONDS = 5.0
"""How long another process may take to ask for an object first. One that hangs keeps its lock, and
there must be time left to ask before a client's deadline for the first byte."""


class Cache:
    """Entries by cache key, the disk, the budget of bytes on their way, and whether all is well."""

    def __init__(
        self,
        directory: Path,
        config: CacheConfig,
        metrics: CacheMetrics,
        *,
        wait_seconds: float,
        max_open: int = MAX_OPEN,
    ) -> None:
        self.config = config
        self.max_open = max_open
        self.metrics = metrics
        self.max_window = int(config.read_ahead_bytes)
        self.wait_seconds = wait_seconds
        self.budget = Budget(int(config.max_in_flight_bytes))
        self.admission = Admission(int(config.block_bytes), time.monotonic)
        self.disk = Disk()
        self.poller = Poller(self.disk)
        self.directory = Directory(directory, close=self.disk.close_later)
        self.upkeep = Upkeep(
            *(self.disk, self.directory),
            Limits(int(config.max_bytes), int(config.min_free_bytes)),
            metrics,
            let_go=self._let_go_of_removed,
        )
        self.tasks: set[asyncio.Task[Any]] = set()
        self.passed_by = PassedBy(time.monotonic)
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._last_purge = b""
        self._purge_looked = -math.inf
        metrics.in_flight = lambda: self.budget.taken

    def last_purge(self) -> bytes:
        """What changes each time that something is purged: what was believed before is not any
        more.
        """
        now = time.monotonic()
        if now - self._purge_looked >= _PURGE_SEEN_SECONDS and self.upkeep.opened:
            self._purge_looked = now
            with suppress(OSError):  # a disk that fails says nothing new, and is told elsewhere
                self._last_purge = self.directory.last_purge()
        return self._last_purge

    def may_write(self) -> bool:
        """Whether the directory is there and could be written to when it was tried last."""
        return self.upkeep.may_write()

    def may_keep(self, cache_key: str) -> bool:
        """Whether an object may be, if the directory can be written to."""
        return self.may_write() and cache_key not in self.passed_by

    def write_failed(self, error: OSError, entry: Entry | None = None) -> None:
        """Leave the directory alone for a while, what is in it is still read; or an entry alone, if
        it failed for what that is.
        """
        if entry is not None and is_of_the_file(error):
            self.passed_by.add(entry.cache_key, error.strerror or str(error))
            self._let_go_of(entry)
        else:
            self.upkeep.write_failed(error)

    def unreadable(self, entry: Entry, error: OSError) -> None:
        """Remove a file that the disk cannot read; the next reader begins another."""
        self.metrics.failed("read")
        log.warning("cache: a file is removed: %s", error)
        self._let_go_of(entry)

    def _let_go_of(self, entry: Entry) -> None:
        """Have nobody find an entry any more."""
        if self._entries.get(entry.cache_key) is entry:
            del self._entries[entry.cache_key]
        self.disk.begin(self._remove, entry)

    async def open(self) -> None:
        """Make the directory ready. Raises ``OSError``."""
        await self.upkeep.open()

    async def run_maintenance(self) -> None:
        """Keep the directory there, writable and within its limits, until cancelled."""
        await self.upkeep.run()

    async def write(self, count: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have ``call`` write ``count`` bytes, which become the cache's, once there is room for
        them. Raises :class:`NoRoom` if there is none, and what it raises.
        """
        writing = functools.partial(call, *args, **kwargs)
        while True:
            try:
                return await self.disk.run(self._within_limits, count, writing)
            except NoRoom:
                if not await self.upkeep.room_for(count):
                    raise

    async def find(self, cache_key: str) -> Entry | None:
        """The entry of an object, whichever version it is of."""
        entry = self.find_open(cache_key)
        if entry is not None:
            self.in_use(entry, 0)
            return entry
        if not self.upkeep.opened or cache_key in self.passed_by:
            return None
        try:
            file = await self.disk.run(self.directory.find, cache_key)
        except ForeignFile as error:
            self.metrics.failed("read" if isinstance(error, UnreadableFile) else "foreign")
            self.passed_by.add(cache_key, f"{self.directory.path_of(cache_key)} is {error}")
            return None
        except InvalidCacheFile as error:
            self.metrics.failed("foreign")
            log.warning("cache: removed %s: %s", self.directory.path_of(cache_key), str(error))
            return None
        except OSError as error:
            if not self.upkeep.lacks_descriptors(error):
                self.metrics.failed("read")
                log.warning(
                    "cache: %s cannot be opened: %s", self.directory.path_of(cache_key), error
                )
            return None
        return self._keep(cache_key, file) if file is not None else None

    def find_open(self, cache_key: str, *, seen_within: float = 0.0) -> Entry | None:
        """The entry of an object whose file is open, and had its name so many seconds ago."""
        entry = self._entries.get(cache_key)
        if entry is None:
            return None
        if entry.is_current(seen_within):
            self._entries.move_to_end(cache_key)
            return entry
        del self._entries[cache_key]
        return None

    async def has(self, entry: Entry, span: ByteSpan) -> bool:
        """Whether all blocks of a small span are here or on their way, after a look at the file."""
        blocks = entry.layout.blocks_of(span)
        if entry.is_coming(*blocks):
            return True
        try:
            claim = await self.disk.run(entry.file.claim, *blocks, fetch=False)
        except OSError:
            self.metrics.failed("read")
            return False
        self.found(entry, claim)
        return entry.is_coming(*blocks)

    def found(self, entry: Entry, claim: Claim) -> None:
        """Take note of what was found of an entry."""
        if claim.damaged:
            log.warning("cache: %d damaged blocks of %s", claim.damaged, entry.cache_key)
            self.metrics.failed("damaged", claim.damaged)
        for block in claim.good:
            entry.has(block)

    def in_use(self, entry: Entry, reread: int) -> None:
        """Note now and then on the disk that somebody reads an entry, ``reread`` bytes that were
        here before.
        """
        if entry.due_to_be_touched():
            self.disk.begin(self._note, touch, entry.file)
        if not entry.reused and entry.is_reused_by(reread):
            self.disk.begin(self._note, reused, entry.file)

    async def create(self, cache_key: str, facts: ObjectFacts, reader: str) -> Entry | None:
        """The entry of a version of an object, told to ``reader``, or of that which another process
        made of the object meanwhile; ``None`` if there can be none now.
        """
        if not self.may_keep(cache_key):
            return None
        header = Header(cache_key, facts, int(self.config.block_bytes), {reader: moment_of(facts)})
        try:
            file = await self.write(NEW_FILE_BYTES, self.directory.create, header)
        except NoRoom:
            return None
        except OSError as error:
            if is_of_the_file(error):
                self.passed_by.add(cache_key, error.strerror or str(error))
            else:
                self.write_failed(error)
            return None
        except (InvalidCacheFile, ValueError) as error:
            self.passed_by.add(cache_key, str(error))
            return None
        return self._keep(cache_key, file, new=True)

    async def checked(self, entry: Entry, facts: ObjectFacts, reader: str) -> None:
        """Note that the origin told ``reader`` these facts of the version of ``entry``."""
        known = entry.file.header
        moment = moment_of(facts)
        passed = moment - known.readers.get(reader, -math.inf)
        if facts == known.facts and 0 <= passed < _NOTED_SECONDS:
            return
        await self._change_header(entry, lambda header: header.told(reader, facts, moment))

    async def refused(self, entry: Entry, reader: str) -> None:
        """Note that the origin refuses an object to ``reader``, who must not have it from here
        either.
        """
        await self._change_header(entry, lambda header: header.refused(reader))

    async def _change_header(self, entry: Entry, change: Callable[[Header], Header]) -> None:
        file = entry.file
        if not (self.may_write() and file.writable):
            file.header = change(file.header)  # what this process knows, at least
            return
        try:
            await self.disk.run(file.change_header, change)
        except OSError as error:
            file.header = change(file.header)
            if not file.gone:
                self.write_failed(error)
        except (InvalidCacheFile, ValueError):
            await self.drop(entry)

    async def reread(self, entry: Entry) -> None:
        """Learn what other processes have noted of an entry."""
        try:
            await self.disk.run(entry.file.reread_header)
        except OSError:
            self.metrics.failed("read")  # what is known of it stays as it is
        except InvalidCacheFile as error:
            if entry.file.gone:
                return
            log.warning("cache: a file was dropped: %s", str(error))
            self.metrics.failed("foreign")
            await self.drop(entry)

    async def drop(self, entry: Entry) -> None:
        """Remove an entry, but not another of the same cache key."""
        cache_key = entry.cache_key
        if self._entries.get(cache_key) is entry:
            del self._entries[cache_key]
        if not self.upkeep.opened:
            return
        try:
            await self.disk.run(self.directory.remove_file, cache_key, entry.file)
        except OSError as error:
            self.write_failed(error)

    @asynccontextmanager
    async def fetch_lock(self, cache_key: str) -> AsyncIterator[None]:
        """Be the one process that asks for an object of which nothing is in the cache; the others
        wait for what comes of it.
        """
        locked = False
        until = time.monotonic() + _OTHERS_OPENING_SECONDS
        try:
            while self.may_keep(cache_key) and not (
                locked := self.directory.try_lock_object(cache_key)
            ):
                free = functools.partial(self.directory.is_object_unlocked, cache_key)
                if not await self.poller.until(free, within=until - time.monotonic()):
                    break
        except OSError as error:
            self.write_failed(error)
        try:
            yield
        finally:
            if locked:
                self.directory.unlock_object(cache_key)

    async def stop(self) -> None:
        """Stop every fill. For as long as there is an origin to read from."""
        await asyncio.sleep(0)  # one that has not had its first turn would not clean up
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def close(self) -> None:
        """Give back every file and thread; the fills have been stopped."""
        self._entries.clear()
        await self.upkeep.stop()
        self.directory.close()
        self.disk.shut_down()

    def _keep(self, cache_key: str, file: CacheFile, *, new: bool = False) -> Entry:
        known = self._entries.get(cache_key)
        if known is not None and known.file.is_current():
            return known  # found by another reader in the meantime
        entry = self._entries[cache_key] = Entry(cache_key, file, new=new)
        self._entries.move_to_end(cache_key)
        if len(self._entries) > self.max_open:
            for other in self._entries.values():
                if not other.filling:
                    del self._entries[other.cache_key]
                    break
        return entry

    def _within_limits(self, count: int, call: Callable[[], T]) -> T:
        with self.upkeep.space.writing(count):
            return call()

    def _remove(self, entry: Entry) -> None:
        try:
            self.directory.remove_file(entry.cache_key, entry.file)
        except OSError:
            self.metrics.failed("write")

    def _let_go_of_removed(self) -> None:
        """Close files without a name, whoever removed them: until nobody has them open they keep
        their space.
        """
        for entry in tuple(self._entries.values()):
            if not entry.file.is_current():
                del self._entries[entry.cache_key]

    def _note(self, note: Callable[[CacheFile], object], file: CacheFile) -> None:
        try:
            note(file)
        except OSError:
            self.metrics.failed("write")
