"""``check`` finds what ``serve`` would find of the cache directory, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import run
from tests.cli.forked import run_forked
from tests.cli.test_check import check
from tests.fakes.s3 import FakeS3
from tests.faults.test_cache_disk import mounted
from tests.faults.tools import needs


async def checked(fake: FakeS3, directory: Path, **environ: str) -> tuple[int, str, str]:
    """The exit code, and the lines about the cache."""
    environ = {"RANGESERVER_CACHE__MIN_FREE_BYTES": "0", **environ}
    finished = await check(
        *(fake.endpoint_url, "--cache-dir", str(directory)), way=run_forked, **environ
    )
    lines = finished.out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if "  cache: " in line)
    advice = lines[at + 1] if lines[at + 1].startswith(" ") else ""
    return finished.code, lines[at], advice


def listing(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_size * path.is_file() for path in directory.rglob("*")}


def nothing(path: Path) -> None:
    pass


def an_empty_directory(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)


def a_directory_below(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)


@pytest.mark.parametrize("before", [nothing, an_empty_directory, a_directory_below])
async def test_a_directory_that_can_be_made(
    fake: FakeS3, tmp_path: Path, before: Callable[[Path], None]
) -> None:
    directory = tmp_path / "a" / "b" if before is a_directory_below else tmp_path / "cache"
    before(directory)
    there = listing(tmp_path)
    code, line, advice = await checked(fake, directory, RANGESERVER_CACHE__MAX_BYTES="1MiB")
    assert (code, advice) == (0, "")
    assert line == f"ok       cache: {directory} can be used, with room for 1.0 MiB"
    assert listing(tmp_path) == there


async def test_a_directory_that_others_may_write_to(fake: FakeS3, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    code, line, advice = await checked(fake, tmp_path)
    assert (code, line.startswith("ok")) == (0, True)
    assert advice == "         -> other users may write to it: chmod go-w"


async def test_a_cache_that_is_there(fake: FakeS3, tmp_path: Path) -> None:
    """Is used as by a server, and stays as it was."""
    warmed = await run_forked("cache", "warm", "film.mp4", "--cache-dir", str(tmp_path), environ={
        "RANGESERVER_ORIGIN__BUCKET": fake.bucket,
        "RANGESERVER_ORIGIN__ENDPOINT_URL": fake.endpoint_url,
        "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
        "RANGESERVER_CACHE__MIN_FREE_BYTES": "0",
    })  # fmt: skip
    assert warmed.code == 0, warmed.err
    there = listing(tmp_path)
    code, line, _ = await checked(fake, tmp_path)
    assert (code, line.startswith(f"ok       cache: {tmp_path} can be used")) == (0, True)
    assert listing(tmp_path) == there
    os.chmod(tmp_path, 0o777)
    code, line, advice = await checked(fake, tmp_path)
    assert (code, line.startswith("ok")) == (0, True)
    assert advice == "         -> other users may write to it: chmod go-w"


@pytest.fixture
def stored() -> dict[str, bytes]:
    return {"film.mp4": b"0123456789"}


def other_files(path: Path) -> None:
    path.mkdir()
    (path / "thesis.doc").touch()


def below_a_file(path: Path) -> None:
    path.touch()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def another_link(path: Path) -> None:
    path.mkdir()
    (path / "rangeserver-cache-1").touch()
    (path / "objects").symlink_to("/tmp")


@pytest.mark.parametrize("change", [other_files, below_a_file, a_link_to_nothing, another_link])
async def test_what_serve_refuses_check_refuses(
    fake: FakeS3, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """In the same words."""
    path = tmp_path / "cache"
    change(path)
    directory = path / "below" if change is below_a_file else path
    code, line, advice = await checked(fake, directory)
    assert code == 1
    assert line.startswith(f"PROBLEM  cache: {directory} cannot be used: ")
    assert "name another in cache.directory" in advice
    arguments = ("--bucket", "films", "--endpoint-url", fake.endpoint_url, "--port", "0")
    started = await run(
        *("serve", *arguments, "--admin-port", "0", "--cache-dir", str(directory)),
        environ={"RANGESERVER_CACHE__MIN_FREE_BYTES": "0"},
    )
    assert started.code == 78
    assert started.err.strip().endswith(line.removeprefix("PROBLEM  cache: "))


async def test_a_cache_that_is_not_required(fake: FakeS3, tmp_path: Path) -> None:
    other_files(tmp_path / "cache")
    code, line, _ = await checked(fake, tmp_path / "cache", RANGESERVER_CACHE__REQUIRED="false")
    assert (code, line.startswith("ok")) == (0, True)
    assert "cannot be used" in line


async def test_no_cache(fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, "--no-cache")
    assert finished.code == 0
    assert "cache" not in finished.out


async def test_a_disk_that_is_too_small(fake: FakeS3, tmp_path: Path) -> None:
    code, line, advice = await checked(fake, tmp_path, RANGESERVER_CACHE__MIN_FREE_BYTES="1024TiB")
    assert code == 1
    assert line.startswith(f"PROBLEM  cache: nothing can be cached in {tmp_path}: of ")
    assert line.endswith("1.0 PiB are to stay free, and fewer are")
    assert "lower cache.min_free_bytes" in advice
    code, line, _ = await checked(fake, tmp_path, RANGESERVER_CACHE__MAX_BYTES="1024TiB")
    assert (code, line.startswith("ok")) == (0, True)
    assert line.endswith(", which is less than cache.max_bytes (1.0 PiB)")


@needs("mount", root=True)
async def test_a_disk_that_is_read_only(fake: FakeS3, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "ro", "tmpfs"):
        for directory in (tmp_path / "disk", tmp_path / "disk" / "cache"):
            code, line, _ = await checked(fake, directory)
            assert code == 1
            assert line == f"PROBLEM  cache: {directory} cannot be used: Read-only file system"
