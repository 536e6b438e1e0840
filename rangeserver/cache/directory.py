"""The directory of a cache: which file holds which object. Blocks; called in threads.

    <directory>/rangeserver-cache-1   marks the directory as ours; locks are taken on it
    <directory>/objects/ab/abcd….rsc  one version of one object
    <directory>/new/…                 files that have no name yet

Several processes share it, and know of each other only by what they find in it. A file gets its
name when it is complete except for blocks, and only if no other file has that name. The name is
removed by any process that learns of another version, needs the space, or is told to. Processes
that have the file open may continue to use it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from weakref import ReferenceType, ref

from rangeserver.cache import locks
from rangeserver.cache.blocks import MIN_BLOCK_BYTES
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.cache_key import file_name, lock_byte
from rangeserver.cache.claims import claim
from rangeserver.cache.errors import InvalidCacheFile, UnreadableFile
from rangeserver.cache.header import Header
from rangeserver.cache.listing import FileInfo, find_name, list_files, list_foreign
from rangeserver.cache.open_directory import OpenDirectory
from rangeserver.cache.opening import create_file, open_file
from rangeserver.cache.purge_mark import read_mark, renew_mark
from rangeserver.cache.removal import evict, remove_abandoned, remove_file, remove_name
from rangeserver.cache.tree import OBJECTS, Tree, refuse_others, temporary_name
from rangeserver.cache.usage import SharedUsage
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

_OF_THE_FILE = {errno.EIO, errno.EACCES, errno.EPERM}
"""Errors of opening one file that say nothing about the directory."""


class Directory:
    """One cache directory. ``close`` is called with each descriptor that is no longer needed.

    Every call except :meth:`open` raises ``FileNotFoundError`` if there is no cache.
    """

    def __init__(self, path: Path, *, close: Callable[[int], object] = os.close) -> None:
        self.path = path
        self._close_later = close
        self._held: Tree | None = None
        self._open: dict[int, ReferenceType[CacheFile]] = {}

    # The directory as a whole

    def open(self) -> None:
        """Make the directory, or the parts of it that are missing. Raises ``OSError``."""
        held = self._held
        if held is None or not held.is_whole(self.path):
            self._held = Tree.made(self.path, close=self._close_later)

    def close(self) -> None:
        """Release the locks."""
        self._held = None

    def exists(self) -> bool:
        """Whether there is a cache, made by any process. Raises ``OSError``."""
        try:
            return self._tree is not None
        except FileNotFoundError:
            return False

    @property
    def _tree(self) -> Tree:
        """What is worked in. A call with several steps does all of them in the same tree."""
        held = self._held
        if held is None:
            held = self._held = Tree.found(self.path, close=self._close_later)
        return held

    def exposure(self) -> str | None:
        """What other users could do to it, in words; ``None`` if nothing. Raises ``OSError``."""
        return self._tree.exposure()

    def refuse_others(self) -> None:
        """Raise ``OSError`` if the directory exists and holds what is not a cache's."""
        with suppress(FileNotFoundError):
            refuse_others(OpenDirectory.at(self.path, close=self._close_later))

    def try_out(self) -> None:
        """Make a file, write and lock a block in it, and remove it. Raises ``OSError``."""
        tree, name = self._tree, temporary_name()
        facts = ObjectFacts(ObjectKey(""), MIN_BLOCK_BYTES, '""')
        header = Header("", facts, MIN_BLOCK_BYTES, {})
        try:
            file = create_file(tree.new, name, header, close=self._close)
            file.write(bytes(MIN_BLOCK_BYTES), 0)
            if claim(file, 0, 1, fetch=True).run is not None:
                file.record(0, 0)
        finally:
            tree.new.unlink(name)

    def path_of(self, cache_key: str) -> str:
        """The path that an object's file has or would have, for messages only."""
        return self.path_to(file_name(cache_key))

    def path_to(self, name: str) -> str:
        """The path of a file that was listed, for messages only."""
        return f"{self.path}/{OBJECTS}/{name[:2]}/{name}"

    # Files of objects

    def find(self, cache_key: str) -> CacheFile | None:
        """The file of an object, if there is one.

        Raises ``OSError`` and :class:`InvalidCacheFile`; a file that causes the latter is removed,
        unless it is a :class:`ForeignFile`.
        """
        tree, name = self._tree, file_name(cache_key)
        try:
            file = self._opened(tree, name)
            if file.header.cache_key != cache_key:
                msg = "of another object"
                raise InvalidCacheFile(msg)
        except FileNotFoundError:
            return None
        except InvalidCacheFile:
            remove_name(tree, name)
            raise
        except OSError as error:
            if error.errno not in _OF_THE_FILE:
                raise
            msg = f"not to be read ({error.strerror})"
            raise UnreadableFile(msg) from error
        return file

    def create(self, header: Header) -> CacheFile:
        """A new file for a version of an object; if another process was faster, its file.

        Raises ``OSError``, :class:`InvalidCacheFile`, and ``ValueError`` for facts that no header
        can hold.
        """
        tree, temporary, name = self._tree, temporary_name(), file_name(header.cache_key)
        try:
            made = self._known(create_file(tree.new, temporary, header, close=self._close))
            try:
                tree.new.link(temporary, tree.group_of(name, make=True), name)
            except FileExistsError:
                del made  # a traceback that somebody keeps would keep the file open
                existing = self.find(header.cache_key)
                # If it was removed in the meantime, the name is free again.
                return existing if existing is not None else self.create(header)
            return made
        finally:
            tree.new.unlink(temporary)

    def open_listed(self, info: FileInfo) -> CacheFile:
        """Open one of :meth:`files`. Raises :class:`InvalidCacheFile` and ``OSError``."""
        return self._opened(self._tree, info.name)

    def open_files(self) -> list[CacheFile]:
        """The files that anything in this process has open."""
        return [file for each in tuple(self._open.values()) if (file := each()) is not None]

    def remove(self, info: FileInfo) -> bool:
        """Remove one of :meth:`files`; whether it was there and is proved to be ours. Raises
        ``OSError``.
        """
        return remove_name(self._tree, info.name)

    def remove_file(self, cache_key: str, file: CacheFile) -> bool:
        """Remove the file of an object if it is still this one; whether it was. Raises
        ``OSError``.
        """
        return remove_file(self._tree, file_name(cache_key), file)

    def evict(self, info: FileInfo) -> int | None:
        """Remove one of :meth:`files` if it was not used since; the bytes that it occupied. Raises
        ``OSError``.
        """
        return evict(self._tree, info)

    def remove_abandoned(self) -> None:
        """Remove files of processes that died before they gave them a name. Raises ``OSError``."""
        remove_abandoned(self._tree)

    # What is in it

    def files(self) -> Iterator[FileInfo]:
        """Every file that is named like a cache file. Raises ``OSError``."""
        return list_files(self._tree)

    def find_listed(self, cache_key: str) -> FileInfo | None:
        """The file of an object, without opening it. Raises ``OSError``."""
        return find_name(self._tree, file_name(cache_key))

    def foreign_paths(self) -> Iterator[str]:
        """The paths of what no cache has put there; a directory of such counts once."""
        return (f"{self.path}/{name}" for name in list_foreign(self._tree))

    @property
    def usage(self) -> SharedUsage:
        """What all files occupy, as all processes count it together."""
        return self._tree.usage

    def unlinked_bytes(self) -> int:
        """What removed files occupy because processes have them open. Raises ``OSError``."""
        self.usage.forget_the_dead()
        taken = self.usage.read()
        return taken.held if taken is not None else 0

    def size_bytes(self) -> int:
        """All bytes of the file system. Raises ``OSError``."""
        stat = os.fstatvfs(self._tree.root.fileno())
        return stat.f_blocks * stat.f_frsize

    def free_bytes(self) -> int:
        """Bytes of the file system that are free for us. Raises ``OSError``."""
        stat = os.fstatvfs(self._tree.root.fileno())
        return stat.f_bavail * stat.f_frsize

    # Between processes

    def note_purge(self) -> None:
        """Tell all servers that something was purged. Raises ``OSError``."""
        renew_mark(self._tree.mark)

    def last_purge(self) -> bytes:
        """What each :meth:`note_purge` of any process changes; does not block once the directory
        is open. Raises ``OSError``.
        """
        return read_mark(self._tree.mark)

    def try_lock_object(self, cache_key: str) -> bool:
        """Become the one process that makes a file for this object. Raises ``OSError``."""
        return locks.try_lock(self._tree.mark, lock_byte(cache_key), 1)

    def is_object_unlocked(self, cache_key: str) -> bool:
        """Whether no other process has the lock on this object. Raises ``OSError``."""
        return locks.first_locked(self._tree.mark, lock_byte(cache_key), 1) is None

    def unlock_object(self, cache_key: str) -> None:
        """Release the lock on this object; does not block."""
        locks.unlock(self._tree.mark, lock_byte(cache_key), 1)

    def _opened(self, tree: Tree, name: str) -> CacheFile:
        group = tree.group_of(name)
        return self._known(open_file(group, name, owner=tree.owner, close=self._close))

    def _known(self, file: CacheFile) -> CacheFile:
        self._open[file.fileno()] = ref(file)
        return file

    def _close(self, descriptor: int) -> None:
        # Before it is closed: the next file may get the same number.
        self._open.pop(descriptor, None)
        self._close_later(descriptor)
