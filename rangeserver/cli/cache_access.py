"""What the commands on the cache have in common: its directory, names, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from rangeserver.cache.addresses import Addresses
from rangeserver.cache.cache_key import split_cache_key
from rangeserver.cache.directory import Directory
from rangeserver.cache.location import cache_directory
from rangeserver.cli.options import exit_with_problems
from rangeserver.cli.words import printable
from rangeserver.config import Config, Mount
from rangeserver.errors import ConfigError

ELSEWHERE = "s3://"
"""What begins the names of objects that the configuration does not serve."""

INTERRUPTED = 130
"""As shells have it for a command that SIGINT ended."""


def fail(problem: str, code: int = 1) -> NoReturn:
    """Print a line and exit."""
    click.echo(f"rangeserver: cache: {problem}", err=True)
    sys.exit(code)


@contextmanager
def one_line_errors(path: Path | None = None) -> Iterator[None]:
    """Tell in a line what the disk refuses in a directory, and that the command was interrupted."""
    try:
        yield
    except BrokenPipeError:
        raise  # click ends quietly when nobody reads what it prints
    except OSError as error:
        where = [] if path is None else [str(path)]
        if error.filename not in {None, ".", *where}:
            where.append(str(error.filename))
        fail(": ".join([*where, error.strerror or str(error)]))
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


@contextmanager
def opened_directory(config: Config) -> Iterator[Directory]:
    """The directory of a cache that exists; what goes wrong in it is told in a line."""
    try:
        path = cache_directory(config.cache.directory)
    except OSError as error:
        exit_with_problems(ConfigError([f"cache.directory: {error.strerror}"]))
    with one_line_errors(path):
        directory = Directory(path)
        if not directory.exists():
            fail(f"{path}: there is no cache here")
        yield directory


class Names:
    """How objects are called: as requests do where the configuration serves them."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    def name(self, cache_key: str) -> str | None:
        """The KEY of an object, if it is served."""
        return next(self._addresses.names(cache_key), None)

    def shown(self, cache_key: str) -> str:
        """Its KEY, or in what bucket it is."""
        return printable(self.name(cache_key) or _elsewhere(cache_key))

    def selects(self, wanted: str, cache_key: str) -> bool:
        """Whether an object has the name ``wanted``, or one below it if that is a PREFIX/.

        The prefix ``/`` is all that is served, and nothing else.
        """
        if wanted.startswith(ELSEWHERE):
            names = iter((_elsewhere(cache_key),))
        else:
            names = self._addresses.names(cache_key)
        plain = wanted.removeprefix("/")
        if wanted.endswith("/"):
            return any(name.startswith(plain) for name in names)
        return plain in names


def _elsewhere(cache_key: str) -> str:
    _, bucket, key = split_cache_key(cache_key)
    return f"{ELSEWHERE}{bucket}/{key}"


def mounted_key(addresses: Addresses, config: Config, key: str) -> tuple[Mount, str]:
    """The mount that a KEY is below, and the key there; exits if there is none."""
    found = addresses.find(key.removeprefix("/"))
    if found is None:
        paths = ", ".join(sorted(mount.path for mount in config.mounted()))
        fail(f"{key!r} names no object: name one below {paths}", 2)
    return found
