"""The cache of one process: what all its readers and transfers share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rangeserver.cache.admission import Admission
from rangeserver.cache.budget import Budget
from rangeserver.cache.claims import Claim, claim
from rangeserver.cache.directory import Directory
from rangeserver.cache.disk import Disk
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile, NoRoom, UnreadableFile
from rangeserver.cache.header import Header
from rangeserver.cache.limits import Limits
from rangeserver.cache.maintenance import Maintenance
from rangeserver.cache.metrics import CacheMetrics
from rangeserver.cache.moments import moment_of
from rangeserver.cache.open_entries import MAX_OPEN, OpenEntries
from rangeserver.cache.passed_by import PassedBy, is_of_the_file
from rangeserver.cache.polling import Poller
from rangeserver.cache.purge_mark import PurgeWatch
from rangeserver.cache.space import NEW_FILE_BYTES
from rangeserver.config import CacheConfig
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))


class Cache:
    """Finds, makes and removes entries; holds the disk, the limits and the budget behind them.

    ``wait_seconds`` is how long a fetch waits for its turn in the budget.
    """

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
        self.metrics = metrics
        self.max_window = int(config.read_ahead_bytes)
        self.wait_seconds = wait_seconds
        self.budget = Budget(int(config.max_in_flight_bytes))
        self.admission = Admission(int(config.block_bytes), time.monotonic)
        self.disk = Disk()
        self.poller = Poller(self.disk)
        self.directory = Directory(directory, close=self.disk.close_later)
        self.entries = OpenEntries(max_open)
        self.maintenance = Maintenance(
            *(self.disk, self.directory),
            Limits(int(config.max_bytes), int(config.min_free_bytes)),
            metrics,
            close_unlinked=self.entries.close_unlinked,
        )
        self.may_write = self.maintenance.may_write
        self.write = self.maintenance.write
        self.tasks: set[asyncio.Task[Any]] = set()
        """Whatever runs without a response that waits for it: transfers, late checks."""
        self.passed_by = PassedBy(time.monotonic)
        self._purges = PurgeWatch(self.directory.last_purge)
        metrics.in_flight = lambda: self.budget.taken

    # Its life

    async def open(self) -> None:
        """Make the directory ready. Raises ``OSError``."""
        await self.maintenance.open()

    async def run_maintenance(self) -> None:
        """Keep the directory there, writable and within its limits, until cancelled."""
        await self.maintenance.run()

    async def stop(self) -> None:
        """Stop every transfer; the origin must still be open."""
        await asyncio.sleep(0)  # a task that has not had its first turn would not clean up
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def close(self) -> None:
        """Release all files and threads. Call :meth:`stop` first."""
        self.entries.clear()
        await self.maintenance.stop()
        self.directory.close()
        self.disk.shut_down()

    # Entries

    async def find(self, cache_key: str) -> Entry | None:
        """The entry of an object, of whichever version it is."""
        entry = self.find_open(cache_key)
        if entry is not None:
            self.in_use(entry, 0)
            return entry
        if not self.maintenance.opened or cache_key in self.passed_by:
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
            if not self.maintenance.lacks_descriptors(error):
                self.metrics.failed("read")
                path = self.directory.path_of(cache_key)
                log.warning("cache: %s cannot be opened: %s", path, error)
            return None
        return self.entries.add(cache_key, file) if file is not None else None

    def find_open(self, cache_key: str, *, seen_within: float = 0.0) -> Entry | None:
        """The same if its file is open; it had its name at most ``seen_within`` seconds ago."""
        return self.entries.find(cache_key, seen_within=seen_within)

    async def create(self, cache_key: str, facts: ObjectFacts, reader: str) -> Entry | None:
        """An entry for a version that the origin described to ``reader``; or the one that another
        process has made of the object meanwhile, or ``None`` if there can be none now.
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
        return self.entries.add(cache_key, file, new=True)

    async def drop(self, entry: Entry) -> None:
        """Remove an entry and its file, but not a later file of the same object."""
        self.entries.remove(entry)
        if not self.maintenance.opened:
            return
        try:
            await self.disk.run(self.directory.remove_file, entry.cache_key, entry.file)
        except OSError as error:
            self.write_failed(error)

    # Use of entries

    def in_use(self, entry: Entry, reread: int) -> None:
        """Note on the disk, now and then, that an entry is read; ``reread`` bytes of what is read
        were in the cache before.
        """
        if entry.due_to_be_touched():
            self.disk.begin(self._note, entry.file.touch)
        if not entry.reused and entry.is_reused_by(reread):
            self.disk.begin(self._note, entry.file.mark_reused)

    async def has(self, entry: Entry, span: ByteSpan) -> bool:
        """Whether all blocks of a small span are here or on their way; looks into the file."""
        blocks = entry.layout.blocks_of(span)
        if entry.is_coming(*blocks):
            return True
        try:
            found = await self.disk.run(claim, entry.file, *blocks, fetch=False)
        except OSError:
            self.metrics.failed("read")
            return False
        self.found(entry, found)
        return entry.is_coming(*blocks)

    def found(self, entry: Entry, found: Claim) -> None:
        """Take over what was found in the file of an entry."""
        if found.damaged:
            log.warning("cache: %d damaged blocks of %s", found.damaged, entry.cache_key)
            self.metrics.failed("damaged", found.damaged)
        for block in found.good:
            entry.has(block)

    def last_purge(self) -> bytes:
        """What changes with each purge: facts from before it must not be used any more."""
        if self.maintenance.opened:
            self._purges.look()
        return self._purges.mark

    # What may be kept, and failures

    def may_keep(self, cache_key: str) -> bool:
        """Whether an object may be kept: the directory can be written to, and nothing is wrong
        with this object.
        """
        return self.may_write() and cache_key not in self.passed_by

    def write_failed(self, error: OSError, entry: Entry | None = None) -> None:
        """Stop writing for a while, what is cached is still read; or stop caching one object, if
        the error is due to what it is.
        """
        if entry is not None and is_of_the_file(error):
            self.passed_by.add(entry.cache_key, error.strerror or str(error))
            self._remove_later(entry)
        else:
            self.maintenance.write_failed(error)

    def unreadable(self, entry: Entry, error: OSError) -> None:
        """Remove a file that the disk cannot read; the next reader begins another."""
        self.metrics.failed("read")
        log.warning("cache: a file is removed: %s", error)
        self._remove_later(entry)

    def _remove_later(self, entry: Entry) -> None:
        self.entries.remove(entry)
        self.disk.begin(self._remove, entry)

    def _remove(self, entry: Entry) -> None:
        try:
            self.directory.remove_file(entry.cache_key, entry.file)
        except OSError:
            self.metrics.failed("write")

    def _note(self, note: Callable[[], object]) -> None:
        try:
            note()
        except OSError:
            self.metrics.failed("write")
