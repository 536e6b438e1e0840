"""The directory of a cache: which file holds which object. All of it blocks, for threads.

    <directory>/rangeserver-cache-1   says that the directory is ours; locks are taken on it
    <directory>/objects/ab/abcd….rsc  one object, one version
    <directory>/new/…                 files before they get their name

Several processes share it, and know nothing of each other but what they find here. A name is
given to a file once it is complete but for blocks, and exclusively; it is taken away by whoever
learns that another version is current, needs the space, or is told to. Those who have the file
open may go on with it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from rangeserver.cache import locks
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.header import Header, NotOurs

MARK = "rangeserver-cache-1"
_SUFFIX = ".rsc"
_OWN = {"objects", "new", MARK, "lost+found"}
_GROUP = re.compile(r"[0-9a-f]{2}")
_NAME = re.compile(r"[0-9a-f]{40}\.rsc")
_ABANDONED_SECONDS = 60.0
"""A file gets its name within milliseconds; without one after this, its maker is dead."""

_JANITOR = 1 << 62
"""The byte of the mark whose lock makes a process the janitor; keys have those below."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the cache: bytes it takes on the disk, and when it was last used."""

    path: str
    disk_bytes: int
    used: float


class Directory:
    """One cache directory; ``close`` is called with each descriptor no longer needed."""

    def __init__(self, path: Path, *, close: Callable[[int], object] = os.close) -> None:
        self.path = path
        self._close = close
        self._objects = path / "objects"
        self._new = path / "new"
        self._mark = -1

    def open(self) -> None:
        """Make the directory, or what is missing of it: it may have been removed.

        Raises ``OSError``.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = self.path / MARK
        if not mark.exists() and any(self.path.iterdir()):
            self._refuse_other_directories()
        self._objects.mkdir(mode=0o700, exist_ok=True)
        self._new.mkdir(mode=0o700, exist_ok=True)
        if self._mark < 0 or not os.fstat(self._mark).st_nlink:
            before = self._mark
            self._mark = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if before >= 0:
                self._close(before)

    def _refuse_other_directories(self) -> None:
        entries = {entry.name for entry in self.path.iterdir()}
        if not entries <= _OWN:
            msg = "it holds other files; name a directory of its own"
            raise OSError(0, msg)

    def close(self) -> None:
        """Give up the locks."""
        if self._mark >= 0:
            os.close(self._mark)
            self._mark = -1

    def is_there(self) -> bool:
        """Whether a cache was made here, by whomever. Raises ``OSError``."""
        return (self.path / MARK).is_file()

    def find(self, place: str) -> CacheFile | None:
        """The file of an object, if there is one. Raises :class:`NotOurs`, which removes what was
        found instead, and ``OSError``.
        """
        path = self.path_of(place)
        try:
            found = CacheFile.opened(path, close=self._close)
        except FileNotFoundError:
            return None
        except NotOurs:
            self.remove(path)
            raise
        except OSError as error:
            if error.errno == errno.EIO:
                self.remove(path)
            raise
        if found.header.place != place:
            self.remove(path)
            msg = "of another object"
            raise NotOurs(msg)
        return found

    def create(self, header: Header) -> CacheFile:
        """A file for a version of an object; if another process was faster, that of its making.

        Raises ``OSError``, and ``ValueError`` for facts that no header can hold.
        """
        temporary = self._new / f"{os.getpid()}-{secrets.token_hex(8)}"
        path = self.path_of(header.place)
        try:
            made = CacheFile.created(str(temporary), header, close=self._close)
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o700)
            try:
                os.link(temporary, path)
            except FileExistsError:
                del made  # whoever keeps an error keeps this call, and would keep the file open
                existing = self.find(header.place)
                # Where it was removed in the meantime there is room for one of ours.
                return existing if existing is not None else self.create(header)
            return made
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()

    def remove(self, path: str) -> bool:
        """Take a file's name away; whether it had one. Raises ``OSError``.

        A directory in its place stays: it may hold what is not ours.
        """
        try:
            os.unlink(path)
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True

    def remove_file(self, place: str, file: CacheFile) -> bool:
        """Remove the file of an object if it is still this one; whether it was. Raises
        ``OSError``.
        """
        path = self.path_of(place)
        try:
            named = os.lstat(path)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(file.fileno())) and self.remove(path)

    def files(self) -> Iterator[Found]:
        """Every object's file. What is gone by the time it is looked at is left out."""
        for directory in _entries(self._objects):
            for entry in _entries(directory.path):
                if _NAME.fullmatch(entry.name) is None:
                    continue  # not ours, and not ours to remove
                with suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    if not S_ISREG(stat.st_mode):
                        continue
                    yield _found(entry.path, stat)

    def found(self, place: str) -> Found | None:
        """The file of an object, by its name alone. Raises ``OSError``."""
        path = self.path_of(place)
        try:
            return _found(path, os.stat(path, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def strangers(self) -> Iterator[str]:
        """The paths of what no cache has put there; a directory of them counts once."""
        yield from (entry.path for entry in _entries(self.path) if entry.name not in _OWN)
        for group in _entries(self._objects):
            if _GROUP.fullmatch(group.name) and group.is_dir(follow_symlinks=False):
                files = _entries(group.path)
                yield from (file.path for file in files if not _is_named_like_ours(file))
            else:
                yield group.path

    def remove_abandoned(self) -> None:
        """Remove files whose makers died before they gave them a name."""
        for entry in _entries(self._new):
            with suppress(FileNotFoundError, IsADirectoryError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
                    os.unlink(entry.path)

    def opened(self, found: Found) -> CacheFile:
        """Open one of :meth:`files`. Raises :class:`NotOurs` and ``OSError``."""
        return CacheFile.opened(found.path, close=self._close)

    def free_bytes(self) -> int:
        """Bytes of the file system that are free for us. Raises ``OSError``."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def try_lock_place(self, place: str) -> bool:
        """Become the one process that makes a file for this object. Raises ``OSError``."""
        return locks.try_lock(self._mark, _lock_byte(place), 1)

    def is_place_free(self, place: str) -> bool:
        """Whether no other process has it locked. Raises ``OSError``."""
        return locks.first_locked(self._mark, _lock_byte(place), 1) is None

    def unlock_place(self, place: str) -> None:
        """Be it no longer; does not block."""
        locks.unlock(self._mark, _lock_byte(place), 1)

    def try_become_janitor(self) -> bool:
        """Become the one process that removes what is too much. Raises ``OSError``."""
        return locks.try_lock(self._mark, _JANITOR, 1)

    def be_janitor_no_longer(self) -> None:
        """Let others."""
        locks.unlock(self._mark, _JANITOR, 1)

    def path_of(self, place: str) -> str:
        """Where the file of an object is, or would be."""
        name = _digest(place)
        return f"{self._objects}/{name[:2]}/{name}{_SUFFIX}"


def place_of(endpoint_url: str, bucket: str, key: str) -> str:
    """The name of an object among those of all buckets; an empty endpoint is AWS."""
    return f"{endpoint_url.rstrip('/') or 'aws'} {bucket} {key}"


def read_place(place: str) -> tuple[str, str, str]:
    """The endpoint's URL (``aws`` for AWS), the bucket and the key that a place is made of."""
    endpoint, bucket, key = place.split(" ", 2)
    return endpoint, bucket, key


def used_now(file: CacheFile) -> None:
    """Note that a file is of use: what was not for longest goes first. Raises ``OSError``."""
    os.utime(file.fileno())


def _found(path: str, stat: os.stat_result) -> Found:
    return Found(path, stat.st_blocks * 512, stat.st_mtime)


def _digest(place: str) -> str:
    return hashlib.blake2b(place.encode(), digest_size=20).hexdigest()


def _lock_byte(place: str) -> int:
    return int.from_bytes(hashlib.blake2b(place.encode(), digest_size=7).digest(), "big")


def _is_named_like_ours(entry: os.DirEntry[str]) -> bool:
    return _NAME.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)


def _entries(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
