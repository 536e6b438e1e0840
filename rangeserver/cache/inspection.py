"""What is in a cache directory, for commands. Blocks.

Servers may use it meanwhile: files come and go, and blocks are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.cache_key import file_name
from rangeserver.cache.directory import Directory
from rangeserver.cache.errors import InvalidCacheFile
from rangeserver.cache.header import Header
from rangeserver.cache.listing import FileInfo
from rangeserver.protocol.ranges import ByteSpan


@dataclass(frozen=True, slots=True)
class CachedObject:
    """An object in the cache, with ``cached_bytes`` of it."""

    found: FileInfo
    header: Header
    cached_bytes: int

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.cached_bytes == self.header.facts.size

    @property
    def percent(self) -> int:
        """How much of it is there, rounded down: 100 is all."""
        size = self.header.facts.size
        return self.cached_bytes * 100 // size if size else 100


@dataclass(frozen=True, slots=True)
class UnusableFile:
    """A file that is named like a cache file and cannot be used. A server that finds it removes it
    if it is proved to be ours, and otherwise bypasses the cache for this object.
    """

    found: FileInfo
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A cache in figures: ``disk_bytes`` as du counts them, times of last use in seconds since
    the epoch, ``None`` where there is no object; ``foreign_paths`` are not
    ours.
    """

    objects: int
    complete: int
    cached_bytes: int
    disk_bytes: int
    oldest_use: float | None
    newest_use: float | None
    unusable: int
    foreign_paths: tuple[str, ...]


def contents(directory: Directory) -> Iterator[CachedObject | UnusableFile]:
    """Every file, most recently used first. Raises ``OSError``."""
    for found in sorted(directory.files(), key=lambda file: -file.used):
        looked_at = look_at(directory, found)
        if looked_at is not None:
            yield looked_at


def look_at(directory: Directory, found: FileInfo) -> CachedObject | UnusableFile | None:
    """What a file holds; ``None`` if it is gone."""
    try:
        file = open_in_place(directory, found)
        return CachedObject(found, file.header, cached_bytes(file)) if file is not None else None
    except InvalidCacheFile as error:
        return UnusableFile(found, str(error))
    except OSError as error:
        return UnusableFile(found, f"cannot be read: {error.strerror}")


def open_in_place(directory: Directory, found: FileInfo) -> CacheFile | None:
    """Open a file; ``None`` if it is gone.

    Raises ``OSError``, and :class:`InvalidCacheFile` also if its name is that of another object.
    """
    try:
        file = directory.open_listed(found)
    except FileNotFoundError:
        return None
    if found.name != file_name(file.header.cache_key):
        msg = "of another object"
        raise InvalidCacheFile(msg)
    return file


def cached_bytes(file: CacheFile, span: ByteSpan | None = None) -> int:
    """How many bytes are in blocks that have a record; of the blocks of a span, if one is given.
    Raises ``OSError``.
    """
    layout = file.layout
    first, stop = layout.blocks_of(span) if span is not None else (0, layout.blocks)
    return sum(layout.span(*run).length for run in file.present(first, stop))


def summarize(directory: Directory) -> Summary:
    """The figures of a cache. Raises ``OSError``."""
    objects = complete = cached = disk_bytes = unusable = 0
    newest: float | None = None
    oldest: float | None = None
    for each in contents(directory):
        disk_bytes += each.found.disk_bytes
        if isinstance(each, UnusableFile):
            unusable += 1
            continue
        objects += 1
        complete += each.complete
        cached += each.cached_bytes
        oldest = each.found.used
        newest = oldest if newest is None else newest
    foreign_paths = tuple(directory.foreign_paths())
    return Summary(objects, complete, cached, disk_bytes, oldest, newest, unusable, foreign_paths)
