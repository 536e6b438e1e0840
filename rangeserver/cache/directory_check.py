"""Checking whether a server could use a directory for its cache; leaves no trace. Blocks."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rangeserver.cache.directory import Directory
from rangeserver.cache.limits import Limits
from rangeserver.cache.tree import exposure_of


@dataclass(frozen=True, slots=True)
class CheckedDirectory:
    """A directory that can be used. The cache can occupy ``room_bytes`` of the ``size_bytes`` of
    its file system, including what it occupies already; ``exposure`` is what other users could do
    to it.
    """

    room_bytes: int
    size_bytes: int
    exposure: str | None


def check_directory(path: Path, limits: Limits) -> CheckedDirectory:
    """Do what a server does when it starts. A cache that does not exist is made in a temporary
    directory beside its path instead. Raises ``OSError``.
    """
    directory = Directory(path)
    if directory.exists():
        directory.open()
        return _checked(directory, limits)
    directory.refuse_others()
    above = path
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    with TemporaryDirectory(prefix=".rangeserver-check-", dir=above) as trial:
        beside = Directory(Path(trial) / "cache")
        beside.open()
        tried = _checked(beside, limits)
    exposure = exposure_of(path.stat(), os.geteuid()) if path.exists() else None
    return replace(tried, exposure=exposure)


def _checked(directory: Directory, limits: Limits) -> CheckedDirectory:
    directory.try_out()
    own = sum(found.disk_bytes for found in directory.files())
    room = directory.free_bytes() + own - limits.min_free_bytes
    return CheckedDirectory(max(room, 0), directory.size_bytes(), directory.exposure())
