"""Directories that are used by an open descriptor. Blocks; called in threads.

Each call works in the directory that was opened, whatever its path means by now, and follows no
symbolic link in it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_DIRECTORY = {errno.ENOTDIR, errno.ELOOP}


class OpenDirectory:
    """An open directory. It is closed with the last reference to this object, so its descriptor can
    never come to mean another directory during a call.
    """

    __slots__ = ("_close", "_descriptor")

    def __init__(self, descriptor: int, close: Callable[[int], object]) -> None:
        self._descriptor = descriptor
        self._close = close

    @classmethod
    def at(cls, path: str | os.PathLike[str], *, close: Callable[[int], object]) -> Self:
        """The directory that a user has named; the path may be a symbolic link.

        Raises ``OSError``.
        """
        return cls(os.open(path, _DIRECTORY), close)

    def __del__(self) -> None:
        self._close(self._descriptor)

    def fileno(self) -> int:
        """The descriptor, valid as long as this object."""
        return self._descriptor

    def stat(self) -> os.stat_result:
        """Of the directory itself."""
        return os.fstat(self._descriptor)

    def child(self, name: str) -> OpenDirectory:
        """A directory in it. Raises ``NotADirectoryError`` also for a symbolic link, and
        ``OSError``.
        """
        try:
            descriptor = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno in _NO_DIRECTORY:
                msg = f"{name} in it is not a directory"
                raise NotADirectoryError(errno.ENOTDIR, msg) from None
            raise
        return OpenDirectory(descriptor, self._close)

    def made(self, name: str) -> OpenDirectory:
        """The same; made if it does not exist, for its owner only."""
        try:
            return self.child(name)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another process was faster
                os.mkdir(name, 0o700, dir_fd=self._descriptor)
            return self.child(name)

    def names(self) -> list[str]:
        """The names in it; none if it was removed. Raises ``OSError``."""
        try:
            # A new descriptor for each listing: listings of one descriptor share their position.
            listing = os.open(".", _DIRECTORY, dir_fd=self._descriptor)
            try:
                return os.listdir(listing)
            finally:
                os.close(listing)
        except FileNotFoundError:
            return []

    def stat_of(self, name: str) -> os.stat_result:
        """Of what has a name in it; symbolic links are not followed. Raises ``OSError``."""
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def holds(self, name: str, stat: os.stat_result) -> bool:
        """Whether a name in it refers to this very file or directory. Raises ``OSError``."""
        try:
            return os.path.samestat(self.stat_of(name), stat)
        except FileNotFoundError:
            return False

    def open_file(self, name: str, flags: int) -> int:
        """The descriptor of a file in it. Follows no symbolic link, and does not wait for the other
        end of a FIFO. Raises ``OSError``.
        """
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(name, flags, 0o600, dir_fd=self._descriptor)

    def link(self, name: str, other: OpenDirectory, new_name: str) -> None:
        """Link a file of it into another directory, if the name is free. Raises ``OSError``."""
        os.link(
            *(name, new_name),
            src_dir_fd=self._descriptor,
            dst_dir_fd=other.fileno(),
            follow_symlinks=False,
        )

    def unlink(self, name: str) -> bool:
        """Remove a file; whether there was one. A directory stays. Raises ``OSError``."""
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True
