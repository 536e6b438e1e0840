"""Removing cache files, and only what is proved to be one. Blocks.

A file is not removed because of its name alone. What another user owns, is no plain file, or does
not begin as our files do was put there by somebody else, who may want it back.
"""

from __future__ import annotations

import os
import re
import time

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.errors import ForeignFile
from rangeserver.cache.listing import FileInfo, disk_bytes, find_name, look_at_name
from rangeserver.cache.open_directory import OpenDirectory
from rangeserver.cache.opening import is_ours
from rangeserver.cache.tree import Tree

_TEMPORARY = re.compile(r"[0-9]+-[0-9a-f]{16}")
_ABANDONED_SECONDS = 60.0
"""A file gets its name within milliseconds. If it has none after this time, its process is dead."""


def remove_name(tree: Tree, name: str) -> bool:
    """Remove the file of this name; whether there was one and it was ours. Raises ``OSError``."""
    try:
        group = tree.group_of(name)
        stat = group.stat_of(name)
        removed = _remove_proven(group, name, tree.owner)
    except (FileNotFoundError, ForeignFile):
        return False
    if removed:
        tree.usage.removed(disk_bytes(stat))
    return removed


def remove_file(tree: Tree, name: str, file: CacheFile) -> bool:
    """Remove this name if it is still that of this file; whether it was. Raises ``OSError``."""
    try:
        group = tree.group_of(name)
    except (FileNotFoundError, ForeignFile):
        return False
    stat = os.fstat(file.fileno())
    removed = group.holds(name, stat) and group.unlink(name)
    if removed:
        tree.usage.removed(disk_bytes(stat))
    return removed


def evict(tree: Tree, info: FileInfo) -> int | None:
    """Remove a listed file if it was not used since; the bytes that it occupied. Raises
    ``OSError``.
    """
    now = find_name(tree, info.name)
    if now is None or now.used > info.used or not remove_name(tree, info.name):
        return None
    return now.disk_bytes


def remove_abandoned(tree: Tree) -> None:
    """Remove files of processes that died before they gave them a name. Raises ``OSError``."""
    long_ago = time.time() - _ABANDONED_SECONDS
    for name in filter(_TEMPORARY.fullmatch, tree.new.names()):
        info = look_at_name(tree.new, name, tree.owner)
        if info is not None and info.used < long_ago:
            _remove_proven(tree.new, name, tree.owner)


def _remove_proven(within: OpenDirectory, name: str, owner: int) -> bool:
    return is_ours(within, name, owner=owner) and within.unlink(name)
