"""What the command does with the directory that it is given for its cache, and with what others
have put there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.cli.commands import served
from tests.cli.forked import run_forked
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, eventually

FILM = bytes(range(256)) * 4096
MARK = "rangeserver-cache-1"
PORTS = ("--port", "0", "--admin-port", "0")


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"film": FILM}


def against(fake: FakeS3, directory: Path) -> tuple[str, ...]:
    origin = ("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url)
    return (*origin, "--cache-dir", str(directory))


PATH_STYLE = {
    "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
    "RANGESERVER_CACHE__MIN_FREE_BYTES": "0",
}


def long_ago(path: Path, text: str = "mine") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (86_400, 86_400))
    return path


def in_new(path: Path) -> Path:
    return long_ago(path / "new" / "thesis.doc")


def in_objects(path: Path) -> Path:
    (path / "objects").mkdir()
    return long_ago(path / "objects" / "ab" / ("ab" * 20 + ".rsc"))


def beside(path: Path) -> Path:
    return long_ago(path / "thesis.doc")


def behind_a_link(name: str) -> Callable[[Path], Path]:
    def change(path: Path) -> Path:
        mine = long_ago(path.with_name("documents") / ("1-" + "f" * 16))
        (path / name).symlink_to(mine.parent)
        return mine

    return change


def with_a_mark(holding: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def change(path: Path) -> Path:
        (path / MARK).touch()
        return holding(path)

    return change


@pytest.mark.parametrize(
    ("holding", "reason"),
    [
        (in_new, "it holds other files ('new')"),
        (in_objects, "it holds other files ('objects')"),
        (beside, "it holds other files ('thesis.doc')"),
        (behind_a_link("new"), "it holds other files ('new')"),
        (behind_a_link("objects"), "it holds other files ('objects')"),
        (with_a_mark(behind_a_link("new")), "new in it is not a directory"),
        (with_a_mark(behind_a_link("objects")), "objects in it is not a directory"),
    ],
)
async def test_a_directory_of_other_files_is_refused(
    fake: FakeS3, tmp_path: Path, holding: Callable[[Path], Path], reason: str
) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    mine = holding(directory)
    finished = await run_forked("serve", *PORTS, *against(fake, directory), environ=PATH_STYLE)
    assert finished.code == 78
    (line,) = finished.err.splitlines()
    assert line.startswith(f"rangeserver: config: cache.directory: {directory} cannot be used: ")
    assert reason in line
    assert mine.read_text() == "mine"


@pytest.mark.fault("C13")
@pytest.mark.parametrize("processes", [1, 2])
async def test_other_files_stay_in_a_directory_of_ours(
    fake: FakeS3, tmp_path: Path, processes: int
) -> None:
    """Whatever their names and ages: it is put in order beside them, and used."""
    directory, documents = tmp_path / "cache", tmp_path / "documents"
    objects = directory / "objects"
    for path in (directory, objects, directory / "new", documents):
        path.mkdir()
    (directory / MARK).touch()
    mine = [
        long_ago(directory / "new" / "thesis.doc"),
        long_ago(directory / "new" / ("7-" + "0" * 16)),
        long_ago(objects / "thesis.doc"),
        long_ago(objects / "ab" / ("ab" * 20 + ".rsc")),
        long_ago(objects / "ab" / ("cd" * 20 + ".rsc"), "rangesrv, of which this is a copy"),
        long_ago(documents / ("cd" * 20 + ".rsc"), "rangesrv"),
        long_ago(documents / ("1-" + "f" * 16), "rangesrv"),
    ]
    (objects / "cd").symlink_to(documents)
    (objects / "zz").symlink_to(documents)
    (directory / "new" / ("2-" + "f" * 16)).symlink_to(documents)
    abandoned = long_ago(directory / "new" / ("1-" + "f" * 16), "rangesrv")
    # Less than one block may stay: all that can be removed is.
    limits = {
        "RANGESERVER_CACHE__MAX_BYTES": "1MiB",
        "RANGESERVER_CACHE__MIN_FREE_BYTES": "1024GiB",
    }
    async with AsyncExitStack() as stack:
        for _ in range(processes):
            started = served(*against(fake, directory), environ={**PATH_STYLE, **limits})
            server = await stack.enter_async_context(started)
            async with await RawClient.connect(server.port) as client:
                assert (await client.get("/film")).body == FILM
        await eventually(lambda: not abandoned.exists())
        purged = await run_forked("cache", "purge", "--all", "--cache-dir", str(directory))
        verified = await run_forked("cache", "verify", "--remove", "--cache-dir", str(directory))
        assert (purged.code, verified.code) == (0, 1)
    assert all(path.exists() for path in mine)


async def test_others_that_may_write_to_it_are_told_of(fake: FakeS3, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    async with (
        served(*against(fake, tmp_path), environ=PATH_STYLE) as server,
        await RawClient.connect(server.port) as client,
    ):
        assert (await client.get("/film")).body == FILM
    told = [line["message"] for line in server.lines if line["level"] == "WARNING"]
    assert told == [f"cache: {tmp_path}: other users may write to it: chmod go-w"]
