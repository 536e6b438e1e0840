"""The commands on the cache as users run them, and what they find in it."""

from __future__ import annotations

import os
import random
from pathlib import Path

from rangeserver.config import Config
from tests.cli.commands import Finished, Way
from tests.cli.forked import run_forked
from tests.fakes.s3 import FakeS3
from tests.support import config_for

MIB = 1 << 20
FILM = random.Random(1).randbytes(5 * MIB + 12_345)
OTHER = random.Random(2).randbytes(5 * MIB + 12_345)
NAME = "films/a b.mp4"


def serving(fake: FakeS3, directory: Path, *, ttl_seconds: float = 60) -> Config:
    """A server that keeps what it serves in ``directory``."""
    cache = {"enabled": True, "directory": str(directory), "min_free_bytes": 0}
    return config_for(fake, cache=cache, ttl_seconds=ttl_seconds)


def origin_of(fake: FakeS3) -> dict[str, str | None]:
    """Variables that say where objects come from."""
    return {
        "RANGESERVER_ORIGIN__BUCKET": fake.bucket,
        "RANGESERVER_ORIGIN__ENDPOINT_URL": fake.endpoint_url,
        "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
        "RANGESERVER_ORIGIN__MAX_ATTEMPTS": "1",
        "RANGESERVER_CACHE__MIN_FREE_BYTES": "0",
    }


async def command(
    directory: Path,
    *arguments: str,
    fake: FakeS3 | None = None,
    way: Way = run_forked,
    **environ: str | None,
) -> Finished:
    """Run a command; without a ``fake`` there is neither a bucket nor any credentials."""
    origin: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    if fake is not None:
        origin = origin_of(fake)
    return await way(
        *("cache", *arguments, "--cache-dir", str(directory)), environ={**origin, **environ}
    )


def told(finished: Finished) -> str:
    """The one line on standard error, and nothing on standard output."""
    assert finished.out == ""
    (line,) = finished.err.splitlines()
    return line


def cache_files(directory: Path) -> list[Path]:
    """The files of all objects."""
    return list(directory.glob("objects/*/*.rsc"))


def damage_the_end(directory: Path) -> None:
    """Change the last byte of the only object."""
    (path,) = cache_files(directory)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([FILM[-1] ^ 1]))
