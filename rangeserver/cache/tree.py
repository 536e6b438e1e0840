"""What makes a directory a cache: its mark and its owner. Blocks; called in threads.

Files in a cache are removed without asking. So a directory is used as a cache only if it has our
mark, and is made one only if it is empty. All of it must belong to one user. From then on it is
used by its descriptors, and not by its path.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG, S_IWGRP, S_IWOTH

from rangeserver.cache.errors import ForeignFile
from rangeserver.cache.open_directory import OpenDirectory
from rangeserver.cache.usage import FULL, SharedUsage

MARK = "rangeserver-cache-1"
OBJECTS = "objects"
NEW = "new"
PARTS = {MARK, OBJECTS, NEW}

_GROUP = re.compile(r"[0-9a-f]{2}")
_NOT_OURS = "in a directory that is not ours"

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}

_MARKED = MARK.encode() + b"\n"
_TEXT = _MARKED + b"A cache of rangeserver. Whatever it has put here, it may remove at any time.\n"
_NO_MARK = f"{MARK} in it is not the mark of a cache"
_OF_FILE_SYSTEMS = "lost+found"


class Tree:
    """A cache directory and its parts, open. ``owner`` is the user id of files that are ours."""

    def __init__(self, root: OpenDirectory, mark: int, close: Callable[[int], object]) -> None:
        self.root = root
        self.mark = mark
        self._close = close
        self.owner = os.fstat(mark).st_uid
        self.usage = SharedUsage(mark)
        self.objects: OpenDirectory
        self.new: OpenDirectory

    def __del__(self) -> None:
        self._close(self.mark)

    @classmethod
    def made(cls, path: Path, *, close: Callable[[int], object]) -> Tree:
        """Make a cache, or its missing parts. Raises ``OSError``.

        Only its owner may: files of another user, root included, would be of no use to the owner.
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:  # a file, or a symbolic link to nothing
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        root = OpenDirectory.at(path, close=close)
        tree = cls(root, _marked(root), close)
        # Tried second: on some file systems our own files belong to another user.
        if tree.owner != os.geteuid() and tree.owner != _own_uid(root):
            msg = f"it belongs to user {_user(tree.owner)}: be that user, or name another"
            raise PermissionError(errno.EPERM, msg)
        tree.objects, tree.new = root.made(OBJECTS), root.made(NEW)
        tree._check()
        return tree

    @classmethod
    def found(cls, path: Path, *, close: Callable[[int], object]) -> Tree:
        """An existing cache. Raises ``FileNotFoundError`` if there is none, and ``OSError``."""
        root = OpenDirectory.at(path, close=close)
        try:
            mark = _existing_mark(root, os.O_RDWR)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            mark = _existing_mark(root, os.O_RDONLY)
        tree = cls(root, mark, close)
        tree.objects, tree.new = root.child(OBJECTS), root.child(NEW)
        tree._check()
        return tree

    def is_whole(self, path: Path) -> bool:
        """Whether all parts are still where they were. Raises ``OSError``."""
        try:
            return os.path.samestat(os.stat(path), self.root.stat()) and all(
                self.root.holds(name, os.fstat(descriptor))
                for name, descriptor in (
                    (MARK, self.mark),
                    (OBJECTS, self.objects.fileno()),
                    (NEW, self.new.fileno()),
                )
            )
        except FileNotFoundError:
            return False

    def groups(self) -> Iterator[tuple[str, OpenDirectory]]:
        """The directories of files, by the two digits that the names in them begin with. Raises
        ``OSError``.
        """
        for group in self.objects.names():
            if _GROUP.fullmatch(group) is not None:
                with suppress(FileNotFoundError, NotADirectoryError, ForeignFile):
                    yield group, self._owned(self.objects.child(group))

    def group_of(self, name: str, *, make: bool = False) -> OpenDirectory:
        """The directory that a file belongs into. Raises :class:`ForeignFile` and ``OSError``."""
        objects = self.objects
        try:
            return self._owned(objects.made(name[:2]) if make else objects.child(name[:2]))
        except NotADirectoryError:
            raise ForeignFile(_NOT_OURS) from None

    def _owned(self, group: OpenDirectory) -> OpenDirectory:
        if group.stat().st_uid != self.owner:
            raise ForeignFile(_NOT_OURS)
        return group

    def exposure(self) -> str | None:
        """What other users could do to it, in words; ``None`` if nothing."""
        parts = ((self.root, "it"), (self.objects, OBJECTS), (self.new, NEW))
        exposures = (exposure_of(held.stat(), self.owner, what) for held, what in parts)
        return next(filter(None, exposures), None)

    def _check(self) -> None:
        """Refuse parts that belong to another user. Raises ``OSError``."""
        for held, name in ((self.objects, OBJECTS), (self.new, NEW)):
            if held.stat().st_uid != self.owner:
                other = _user(held.stat().st_uid)
                msg = f"{name} in it belongs to user {other}, not to {_user(self.owner)}"
                raise PermissionError(errno.EPERM, msg)


def exposure_of(stat: os.stat_result, owner: int, what: str = "it") -> str | None:
    """What users other than its owner and root could do to a directory, in words."""
    if stat.st_mode & (S_IWGRP | S_IWOTH):
        return f"other users may write to {what}: chmod go-w"
    if stat.st_uid not in {owner, 0}:
        return f"{what} belongs to user {_user(stat.st_uid)}, who may write to it"
    return None


def foreign_names(root: OpenDirectory) -> list[str]:
    """What is in a cache directory and not part of a cache. Raises ``OSError``."""
    return [name for name in root.names() if name not in PARTS and not _is_lost_found(root, name)]


def _marked(root: OpenDirectory) -> int:
    """The mark, open; made if the directory is empty. Raises ``OSError``."""
    try:
        descriptor = _existing_mark(root, os.O_RDWR)
    except FileNotFoundError:
        refuse_others(root)
        try:
            descriptor = root.open_file(MARK, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:  # another process was faster
            descriptor = _existing_mark(root, os.O_RDWR)
    if not _text(descriptor):
        try:
            os.pwrite(descriptor, _TEXT, 0)
        except OSError as error:
            if error.errno not in FULL:  # on a full disk its name must do, as in earlier versions
                os.close(descriptor)
                raise
    return descriptor


def refuse_others(root: OpenDirectory) -> None:
    """Raise ``OSError`` for a directory without a mark that holds anything."""
    held = [name for name in root.names() if not _is_lost_found(root, name)]
    if held and MARK not in held:
        msg = f"it holds other files ({min(held)!a}); name a directory of its own"
        raise FileExistsError(errno.EEXIST, msg)


def _existing_mark(root: OpenDirectory, flags: int) -> int:
    """Raises ``FileNotFoundError``, and ``OSError`` for a file that only has its name."""
    if not S_ISREG(root.stat_of(MARK).st_mode):
        raise FileExistsError(errno.EEXIST, _NO_MARK)
    descriptor = root.open_file(MARK, flags)
    try:
        text = _text(descriptor)
        if text not in {_MARKED, b""}:  # earlier versions left it empty
            raise FileExistsError(errno.EEXIST, _NO_MARK)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _text(descriptor: int) -> bytes:
    """The beginning of a mark; nothing if only usage was written to it."""
    return os.pread(descriptor, len(_MARKED), 0).rstrip(b"\0")


def _is_lost_found(root: OpenDirectory, name: str) -> bool:
    """Whether this is the directory that some file systems have at their root."""
    try:
        return name == _OF_FILE_SYSTEMS and S_ISDIR(root.stat_of(name).st_mode)
    except FileNotFoundError:
        return False


def _own_uid(root: OpenDirectory) -> int:
    """The user id that our files get here. Raises ``OSError``."""
    name = temporary_name()
    descriptor = root.open_file(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)
        root.unlink(name)


def temporary_name() -> str:
    """A name for a file until it gets the one of its object."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
