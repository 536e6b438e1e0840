"""What files are in a cache directory, by their names and without opening them. Blocks.

Servers may be at work meanwhile: what is gone by the time it is looked at is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from stat import S_ISREG, S_ISVTX

from rangeserver.cache.errors import ForeignFile
from rangeserver.cache.open_directory import OpenDirectory
from rangeserver.cache.tree import OBJECTS, Tree, foreign_names

_NAME = re.compile(r"[0-9a-f]{40}\.rsc")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file that is named like a cache file. ``used`` is its time of last use, in seconds since
    the epoch; ``reused`` says that it was read again after the reads that caused it.
    """

    name: str
    disk_bytes: int
    used: float
    reused: bool = False


def list_files(tree: Tree) -> Iterator[FileInfo]:
    """Every file that is named like a cache file and is the owner's. Raises ``OSError``."""
    for group, within in tree.groups():
        for name in within.names():
            info = look_at_name(within, name, tree.owner) if _belongs(name, group) else None
            if info is not None:
                yield info


def list_foreign(tree: Tree) -> Iterator[str]:
    """The paths in the directory of what no cache has put there. A directory of such counts once.
    Raises ``OSError``.
    """
    yield from foreign_names(tree.root)
    groups = set()
    for group, within in tree.groups():
        groups.add(group)
        for name in within.names():
            if not _belongs(name, group) or look_at_name(within, name, tree.owner) is None:
                yield f"{OBJECTS}/{group}/{name}"
    yield from (f"{OBJECTS}/{name}" for name in tree.objects.names() if name not in groups)


def find_name(tree: Tree, name: str) -> FileInfo | None:
    """The file of this name, if there is one. Raises ``OSError``."""
    try:
        return look_at_name(tree.group_of(name), name, tree.owner)
    except (FileNotFoundError, ForeignFile):
        return None


def look_at_name(within: OpenDirectory, name: str, owner: int) -> FileInfo | None:
    """What can be said of a file without opening it; ``None`` if it is gone, no plain file or
    another user's. Raises ``OSError``.
    """
    try:
        stat = within.stat_of(name)
    except FileNotFoundError:
        return None
    if not S_ISREG(stat.st_mode) or stat.st_uid != owner:
        return None
    return FileInfo(name, disk_bytes(stat), stat.st_mtime, bool(stat.st_mode & S_ISVTX))


def disk_bytes(stat: os.stat_result) -> int:
    """What a file occupies on the disk."""
    return stat.st_blocks * 512


def _belongs(name: str, group: str) -> bool:
    return _NAME.fullmatch(name) is not None and name.startswith(group)
