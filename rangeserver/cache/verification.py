"""Comparing everything in a cache with its checksums, while servers use it. Blocks.

A file with a damaged block is removed as a whole: servers check each block only once, before they
first use it, but notice at any time that a file is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.directory import Directory
from rangeserver.cache.errors import InvalidCacheFile
from rangeserver.cache.inspection import CachedObject, look_at, open_in_place
from rangeserver.cache.listing import FileInfo
from rangeserver.cache.residency import is_resident


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damaged file. ``cache_key`` is its object's, if the header can be read."""

    found: FileInfo
    reason: str
    cache_key: str | None = None


def verify(
    directory: Directory, found: FileInfo, *, on_bytes: Callable[[int], object]
) -> Damaged | None:
    """Check all blocks of a file. Returns ``None`` if they are good, or if the file is gone.
    ``on_bytes`` is called with the number of bytes read.
    """
    cache_key = None
    try:
        file = open_in_place(directory, found)
        if file is None:
            return None
        cache_key = file.header.cache_key
        recorded = file.present()
        blocks = damaged = 0
        for block in recorded.members():
            blocks += 1
            damaged += _is_damaged(file, block)
            on_bytes(file.layout.span(block, block + 1).length)
        if not damaged or not file.is_current():
            return None
    except InvalidCacheFile as error:
        return Damaged(found, str(error))
    except OSError as error:
        return Damaged(found, f"cannot be read: {error.strerror}", cache_key)
    return Damaged(found, f"{damaged} of {blocks} blocks damaged", cache_key)


def remove(directory: Directory, damaged: Damaged) -> bool:
    """Remove a damaged file; whether it was there and proved ours. Raises ``OSError``."""
    return directory.remove(damaged.found)


def files_to_verify(directory: Directory) -> Iterator[tuple[FileInfo, int]]:
    """Every file, and how many bytes :func:`verify` will read of it. Raises ``OSError``."""
    for found in directory.files():
        looked_at = look_at(directory, found)
        if looked_at is not None:
            yield found, looked_at.cached_bytes if isinstance(looked_at, CachedObject) else 0


def _is_damaged(file: CacheFile, block: int) -> bool:
    layout = file.layout
    span = layout.span(block, block + 1)
    offset = layout.data_offset + span.start
    in_memory = _is_in_memory(file, offset, span.length)
    good = file.verify(block)
    if not in_memory:
        # The page cache is for what viewers ask for: do not evict that.
        os.posix_fadvise(file.fileno(), offset, span.length, os.POSIX_FADV_DONTNEED)
    # A server that found it too has erased its record, and may have fetched it again.
    return not good and bool(file.present(block, block + 1)) and not file.verify(block)


def _is_in_memory(file: CacheFile, offset: int, length: int) -> bool:
    try:
        return is_resident(file.fileno(), offset, length)
    except OSError:
        return False  # the disk cannot read it; the check will show that
