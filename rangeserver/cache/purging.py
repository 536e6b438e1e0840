"""Removing objects from a cache by hand, while servers use it. Blocks.

The file is removed. Servers notice it with the next request for the object; responses that are
being sent from the file are completed. Then all servers are told, also if there was no file: they
may have the facts of the object in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rangeserver.cache.directory import Directory
from rangeserver.cache.errors import InvalidCacheFile
from rangeserver.cache.inspection import open_in_place
from rangeserver.cache.listing import FileInfo


@dataclass(frozen=True, slots=True)
class Purged:
    """How many objects were removed, and the bytes that they occupied."""

    objects: int = 0
    disk_bytes: int = 0


def purge_object(directory: Directory, cache_key: str) -> Purged:
    """Remove one object. Raises ``OSError``."""
    found = directory.find_listed(cache_key)
    return _removed(directory, [found] if found is not None else [])


def purge_where(directory: Directory, wanted: Callable[[str], bool]) -> Purged:
    """Remove the objects whose cache keys are ``wanted``. Raises ``OSError``."""

    def is_wanted(found: FileInfo) -> bool:
        try:
            file = open_in_place(directory, found)
        except InvalidCacheFile:
            return False  # its object is not known, and no server will use it
        return file is not None and wanted(file.header.cache_key)

    return _removed(directory, filter(is_wanted, directory.files()))


def purge_all(directory: Directory) -> Purged:
    """Remove every object; a file that is not proved to be ours stays. Raises ``OSError``."""
    return _removed(directory, directory.files())


def _removed(directory: Directory, files: Iterable[FileInfo]) -> Purged:
    objects = disk_bytes = 0
    for found in files:
        if directory.remove(found):
            objects += 1
            disk_bytes += found.disk_bytes
    directory.note_purge()
    return Purged(objects, disk_bytes)
