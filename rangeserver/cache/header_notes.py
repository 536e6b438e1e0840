"""What the origin said about an entry's version, noted in the header of its file for all processes.

If the file cannot be written, this process at least keeps the note in memory.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from rangeserver.cache.cache import Cache
from rangeserver.cache.entry import Entry
from rangeserver.cache.errors import InvalidCacheFile
from rangeserver.cache.header import Header
from rangeserver.cache.moments import moment_of
from rangeserver.protocol.representation import ObjectFacts
from rangeserver.sparing import sparing

log = sparing(logging.getLogger(__name__))

_NOTED_SECONDS = 1.0
"""The same facts are noted for the same reader once in this time at most."""


async def note_checked(cache: Cache, entry: Entry, facts: ObjectFacts, reader: str) -> None:
    """Note that the origin gave ``reader`` these facts of the entry's version."""
    known = entry.file.header
    moment = moment_of(facts)
    passed = moment - known.readers.get(reader, -math.inf)
    if facts == known.facts and 0 <= passed < _NOTED_SECONDS:
        return
    await _change(cache, entry, lambda header: header.with_reader(reader, facts, moment))


async def note_refused(cache: Cache, entry: Entry, reader: str) -> None:
    """Note that the origin refuses the object to ``reader``, who must not get it from here."""
    await _change(cache, entry, lambda header: header.without_reader(reader))


async def reread_header(cache: Cache, entry: Entry) -> None:
    """Learn what other processes have noted."""
    try:
        await cache.disk.run(entry.file.reread_header)
    except OSError:
        cache.metrics.failed("read")  # what is known of it stays
    except InvalidCacheFile as error:
        if entry.file.gone:
            return
        log.warning("cache: a file was dropped: %s", str(error))
        cache.metrics.failed("foreign")
        await cache.drop(entry)


async def _change(cache: Cache, entry: Entry, change: Callable[[Header], Header]) -> None:
    file = entry.file
    if not (cache.may_write() and file.writable):
        file.header = change(file.header)
        return
    try:
        await cache.disk.run(file.change_header, change)
    except OSError as error:
        file.header = change(file.header)
        if not file.gone:
            cache.write_failed(error)
    except (InvalidCacheFile, ValueError):
        await cache.drop(entry)
