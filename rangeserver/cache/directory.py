"""The directory of a cache: which file holds which object. All of it blocks, for threads.

    <directory>/rangeserver-cache-1   says that the directory is ours; locks are taken on it
    <directory>/objects/ab/abcd….rsc  one object, one version
    <directory>/new/…                 files before they get their name

Several processes share it, and know nothing of each other but what they find here. A name is
given to a file once it is complete but for blocks, and exclusively; it is taken away by whoever
learns that another version is current, needs the space, or is told to. Those who have the file
open may go on with it.

Nothing is removed for its place: what is not the owner's, no plain file, not named as ours are or
does not begin as ours do was put there by somebody else, who may want it back.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_IRUSR, S_ISREG, S_ISVTX, S_IWUSR
from weakref import ReferenceType, ref

from rangeserver.cache import locks
from rangeserver.cache.blocks import MIN_BLOCK_BYTES
from rangeserver.cache.cache_file import CacheFile, is_ours
from rangeserver.cache.cache_key import file_name, lock_byte
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile, UnreadableFile
from rangeserver.cache.header import Header
from rangeserver.cache.open_directory import OpenDirectory
from rangeserver.cache.purge_mark import read_mark, renew_mark
from rangeserver.cache.tree import OBJECTS, Tree, foreign_paths, refuse_others, temporary_name
from rangeserver.cache.usage import SharedUsage
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

_NAME = re.compile(r"[0-9a-f]{40}\.rsc")
_GROUP = re.compile(r"[0-9a-f]{2}")
_NOT_OURS = "in a directory that is not ours"
_TEMPORARY = re.compile(r"[0-9]+-[0-9a-f]{16}")
_ABANDONED_SECONDS = 60.0
"""A file gets its name within milliseconds; without one after this, its maker is dead."""

_OF_THE_FILE = {errno.EIO, errno.EACCES, errno.EPERM}
"""Why one file cannot be opened though the directory is well."""

_SCAN_LOCK = 1 << 62
"""The byte of the mark that the process which counts the files locks; objects lock lower ones."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file that is named as those of the cache are: bytes it takes on the disk, when it was last
    used, and whether for more than the reads that had it made.
    """

    name: str
    disk_bytes: int
    used: float
    reused: bool = False


class Directory:
    """One cache directory; ``close`` is called with each descriptor no longer needed.

    Every call but :meth:`open` raises ``FileNotFoundError`` where no cache was made.
    """

    def __init__(self, path: Path, *, close: Callable[[int], object] = os.close) -> None:
        self.path = path
        self._close_later = close
        self._held: Tree | None = None
        self._open: dict[int, ReferenceType[CacheFile]] = {}

    def open(self) -> None:
        """Make the directory, or what is missing of it: it may have been removed.

        Raises ``OSError``.
        """
        held = self._held
        if held is None or not held.is_whole(self.path):
            self._held = Tree.made(self.path, close=self._close_later)

    def close(self) -> None:
        """Give up the locks."""
        self._held = None

    def is_there(self) -> bool:
        """Whether a cache was made here, by whomever. Raises ``OSError``."""
        try:
            return self._tree is not None
        except FileNotFoundError:
            return False

    @property
    def usage(self) -> SharedUsage:
        """What all files take, as all processes keep it together."""
        return self._tree.usage

    def held_bytes(self) -> int:
        """What removed files take of the disk because processes have them open. Raises
        ``OSError``.
        """
        self.usage.forget_the_dead()
        taken = self.usage.read()
        return taken.held if taken is not None else 0

    def open_files(self) -> list[CacheFile]:
        """The files that are open, by whomever in this process."""
        return [file for each in tuple(self._open.values()) if (file := each()) is not None]

    @property
    def _tree(self) -> Tree:
        """What is worked in. A call that takes several steps takes all of them in the same."""
        held = self._held
        if held is None:
            held = self._held = Tree.found(self.path, close=self._close_later)
        return held

    def purged(self) -> None:
        """Tell servers that something was removed by hand. Raises ``OSError``."""
        renew_mark(self._tree.mark)

    def last_purge(self) -> bytes:
        """What changes with each call of :meth:`purged`, by whomever; does not block once the
        directory is open. Raises ``OSError``.
        """
        return read_mark(self._tree.mark)

    def exposure(self) -> str | None:
        """What other users could do to it, in words; ``None`` if nothing. Raises ``OSError``."""
        return self._tree.exposure()

    def find(self, cache_key: str) -> CacheFile | None:
        """The file of an object, if there is one.

        Raises ``OSError`` and :class:`InvalidCacheFile`; a file that causes the latter is removed,
        unless it is a :class:`ForeignFile`.
        """
        tree, name = self._tree, file_name(cache_key)
        try:
            found = self._opened(tree, name)
            if found.header.cache_key != cache_key:
                msg = "of another object"
                raise InvalidCacheFile(msg)
        except FileNotFoundError:
            return None
        except InvalidCacheFile:
            _remove(tree, name)
            raise
        except OSError as error:
            if error.errno not in _OF_THE_FILE:
                raise
            msg = f"not to be read ({error.strerror})"
            raise UnreadableFile(msg) from error
        return found

    def create(self, header: Header) -> CacheFile:
        """A file for a version of an object; if another process was faster, that of its making.

        Raises ``OSError``, :class:`InvalidCacheFile`, and ``ValueError`` for facts that no header
        can hold.
        """
        tree, temporary, name = self._tree, temporary_name(), file_name(header.cache_key)
        try:
            made = self._known(CacheFile.created(tree.new, temporary, header, close=self._close))
            try:
                tree.new.link(temporary, _group(tree, name, make=True), name)
            except FileExistsError:
                del made  # whoever keeps an error keeps this call, and would keep the file open
                existing = self.find(header.cache_key)
                # Where it was removed in the meantime there is room for one of ours.
                return existing if existing is not None else self.create(header)
            return made
        finally:
            tree.new.unlink(temporary)

    def remove(self, found: FileInfo) -> bool:
        """Take a file's name away; whether it had it still, and proved to be ours. Raises
        ``OSError``.
        """
        return _remove(self._tree, found.name)

    def remove_file(self, cache_key: str, file: CacheFile) -> bool:
        """Remove the file of an object if it is still this one; whether it was. Raises
        ``OSError``.
        """
        tree, name = self._tree, file_name(cache_key)
        try:
            group = _group(tree, name)
        except (FileNotFoundError, ForeignFile):
            return False
        stat = os.fstat(file.fileno())
        removed = group.holds(name, stat) and group.unlink(name)
        if removed:
            tree.usage.removed(_disk_bytes(stat))
        return removed

    def evict(self, found: FileInfo) -> int | None:
        """Remove one of :meth:`files` if it was not used since; the bytes that it took. Raises
        ``OSError``.
        """
        tree = self._tree
        try:
            stat = _group(tree, found.name).stat_of(found.name)
        except (FileNotFoundError, ForeignFile):
            return None
        if stat.st_mtime > found.used or not _remove(tree, found.name):
            return None
        return _disk_bytes(stat)

    def files(self) -> Iterator[FileInfo]:
        """Every file that is named as an object's. What is gone by the time it is looked at is
        left out.
        """
        tree = self._tree
        for group, held in _groups(tree):
            for name in held.names():
                found = _look(held, name, tree.owner) if _belongs(name, group) else None
                if found is not None:
                    yield found

    def found(self, cache_key: str) -> FileInfo | None:
        """The file of an object, by its name alone. Raises ``OSError``."""
        tree, name = self._tree, file_name(cache_key)
        try:
            return _look(_group(tree, name), name, tree.owner)
        except (FileNotFoundError, ForeignFile):
            return None

    def foreign_paths(self) -> Iterator[str]:
        """The paths of what no cache has put there; a directory of them counts once."""
        tree, objects = self._tree, f"{self.path}/{OBJECTS}"
        yield from (f"{self.path}/{name}" for name in foreign_paths(tree.root))
        ours = set()
        for group, held in _groups(tree):
            ours.add(group)
            for name in held.names():
                if not _belongs(name, group) or _look(held, name, tree.owner) is None:
                    yield f"{objects}/{group}/{name}"
        yield from (f"{objects}/{name}" for name in tree.objects.names() if name not in ours)

    def remove_abandoned(self) -> None:
        """Remove files whose makers died before they gave them a name."""
        tree = self._tree
        long_ago = time.time() - _ABANDONED_SECONDS
        for name in filter(_TEMPORARY.fullmatch, tree.new.names()):
            found = _look(tree.new, name, tree.owner)
            if found is not None and found.used < long_ago:
                _remove_proven(tree.new, name, tree.owner)

    def opened(self, found: FileInfo) -> CacheFile:
        """Open one of :meth:`files`. Raises :class:`InvalidCacheFile` and ``OSError``."""
        return self._opened(self._tree, found.name)

    def try_out(self) -> None:
        """Make a file as any object has one, and remove it again. Raises ``OSError``."""
        tree, name = self._tree, temporary_name()
        facts = ObjectFacts(ObjectKey(""), MIN_BLOCK_BYTES, '""')
        try:
            file = CacheFile.created(
                *(tree.new, name, Header("", facts, MIN_BLOCK_BYTES, {})), close=self._close
            )
            file.write(bytes(MIN_BLOCK_BYTES), 0)
            if file.claim(0, 1, fetch=True).run is not None:  # there are locks
                file.record(0, 0)
        finally:
            tree.new.unlink(name)

    def refuse_others(self) -> None:
        """Raise ``OSError`` if it is there and would not be made a cache for what it holds."""
        with suppress(FileNotFoundError):
            refuse_others(OpenDirectory.at(self.path, close=self._close))

    def size_bytes(self) -> int:
        """All bytes of the file system. Raises ``OSError``."""
        stat = os.fstatvfs(self._tree.root.fileno())
        return stat.f_blocks * stat.f_frsize

    def free_bytes(self) -> int:
        """Bytes of the file system that are free for us. Raises ``OSError``."""
        stat = os.fstatvfs(self._tree.root.fileno())
        return stat.f_bavail * stat.f_frsize

    def try_lock_object(self, cache_key: str) -> bool:
        """Become the one process that makes a file for this object. Raises ``OSError``."""
        return locks.try_lock(self._tree.mark, lock_byte(cache_key), 1)

    def is_object_unlocked(self, cache_key: str) -> bool:
        """Whether no other process has it locked. Raises ``OSError``."""
        return locks.first_locked(self._tree.mark, lock_byte(cache_key), 1) is None

    def unlock_object(self, cache_key: str) -> None:
        """Be it no longer; does not block."""
        locks.unlock(self._tree.mark, lock_byte(cache_key), 1)

    def try_lock_scan(self) -> bool:
        """Become the one process that removes what is too much. Raises ``OSError``."""
        return locks.try_lock(self._tree.mark, _SCAN_LOCK, 1)

    def unlock_scan(self) -> None:
        """Let others."""
        locks.unlock(self._tree.mark, _SCAN_LOCK, 1)

    def path_of(self, cache_key: str) -> str:
        """Where the file of an object is, or would be, for people: nothing is opened by it."""
        return self.path_to(file_name(cache_key))

    def path_to(self, name: str) -> str:
        """The same of a file that was found."""
        return f"{self.path}/{OBJECTS}/{name[:2]}/{name}"

    def _opened(self, tree: Tree, name: str) -> CacheFile:
        group = _group(tree, name)
        return self._known(CacheFile.opened(group, name, owner=tree.owner, close=self._close))

    def _known(self, file: CacheFile) -> CacheFile:
        self._open[file.fileno()] = ref(file)
        return file

    def _close(self, descriptor: int) -> None:
        # First: the next file may get its number.
        self._open.pop(descriptor, None)
        self._close_later(descriptor)


def touch(file: CacheFile) -> None:
    """Note that a file is of use: what was not for longest goes first. Raises ``OSError``."""
    os.utime(file.fileno())


def reused(file: CacheFile) -> None:
    """Note that what a file holds was read again: what was not goes first. Raises ``OSError``.

    The bit for it once told a system to keep a program in memory, and means nothing for files now.
    """
    touch(file)
    os.fchmod(file.fileno(), S_IRUSR | S_IWUSR | S_ISVTX)


def is_of(found: FileInfo, cache_key: str) -> bool:
    """Whether a file has the name that belongs to an object."""
    return found.name == file_name(cache_key)


def _groups(tree: Tree) -> Iterator[tuple[str, OpenDirectory]]:
    """The directories of files, by the two digits that the names in them begin with."""
    for group in tree.objects.names():
        if _GROUP.fullmatch(group) is not None:
            with suppress(FileNotFoundError, NotADirectoryError, ForeignFile):
                yield group, _owned(tree, tree.objects.child(group))


def _group(tree: Tree, name: str, *, make: bool = False) -> OpenDirectory:
    """The directory that a file belongs into. Raises :class:`ForeignFile` and ``OSError``."""
    objects = tree.objects
    try:
        return _owned(tree, objects.made(name[:2]) if make else objects.child(name[:2]))
    except NotADirectoryError:
        raise ForeignFile(_NOT_OURS) from None


def _owned(tree: Tree, group: OpenDirectory) -> OpenDirectory:
    if group.stat().st_uid != tree.owner:
        raise ForeignFile(_NOT_OURS)
    return group


def _belongs(name: str, group: str) -> bool:
    return _NAME.fullmatch(name) is not None and name.startswith(group)


def _look(within: OpenDirectory, name: str, owner: int) -> FileInfo | None:
    """What can be told of a file without opening it; ``None`` if it is gone, or not ours."""
    try:
        stat = within.stat_of(name)
    except FileNotFoundError:
        return None
    if not S_ISREG(stat.st_mode) or stat.st_uid != owner:
        return None
    return FileInfo(name, _disk_bytes(stat), stat.st_mtime, bool(stat.st_mode & S_ISVTX))


def _disk_bytes(stat: os.stat_result) -> int:
    return stat.st_blocks * 512


def _remove(tree: Tree, name: str) -> bool:
    try:
        group = _group(tree, name)
        stat = group.stat_of(name)
        removed = _remove_proven(group, name, tree.owner)
    except (FileNotFoundError, ForeignFile):
        return False
    if removed:
        tree.usage.removed(_disk_bytes(stat))
    return removed


def _remove_proven(within: OpenDirectory, name: str, owner: int) -> bool:
    return is_ours(within, name, owner=owner) and within.unlink(name)
