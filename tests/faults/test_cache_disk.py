"""The disk under the cache fails: C1 to C4 and C10 of the fault catalogue."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rangeserver.cache.blocks import Layout
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.faults.responses import Received
from tests.faults.tools import needs
from tests.support import RawClient, eventually

MIB = 1 << 20
BLOCK = 64 << 10
FILM = random.Random(1).randbytes(2 * MIB + 777)
LAYOUT = Layout(len(FILM), BLOCK)

ERRORS = "rangeserver_cache_errors_total"
USABLE = "rangeserver_cache_usable"


def kept(directory: Path, **settings: object) -> dict[str, object]:
    return {"directory": str(directory), "block_bytes": BLOCK, "ttl_seconds": 60, **settings}


def the_file(directory: Path, film: bytes = FILM) -> Path:
    """The only file of an object that is not the probe."""
    length = Layout(len(film), BLOCK).file_bytes
    files = (directory / "objects").glob("*/*.rsc")
    (path,) = (path for path in files if path.stat().st_size == length)
    return path


async def whole(watch: Watch, key: str = "film") -> Received:
    received = await watch.get(f"/{key}")
    assert (received.status, received.complete) == (200, True)
    return received


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again soon."""
    monkeypatch.setattr("rangeserver.cache.maintenance._RETRY_SECONDS", 0.2)


@contextmanager
def mounted(directory: Path, *options: str) -> Iterator[None]:
    directory.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@needs("mount", root=True)
@pytest.mark.usefixtures("soon")
async def test_c01_disk_full(fake: FakeS3, tmp_path: Path) -> None:
    """8 MiB of disk, others have most of it: nobody notices; what goes makes room."""
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        filler = disk.with_name("disk") / "cache-of-others"
        async with watched(fake, cache=kept(disk / "cache")) as watch:
            for number in range(8):
                watch.put(f"film{number}", FILM[number:])
            filler.write_bytes(bytes(5 * MIB))
            for _ in range(2):
                for number in range(8):
                    await whole(watch, f"film{number}")
            assert watch.rose(ERRORS) == 0
            assert watch.rose("rangeserver_cache_evictions_total") > 0
            filler.unlink()
            await eventually(watch.cache.may_write)
            await whole(watch, "film7")
            fake.requests.clear()
            await whole(watch, "film7")
            assert not [seen for seen in fake.requests if seen.key == "film7"]


@needs("mount", root=True)
@pytest.mark.usefixtures("soon")
async def test_c01_disk_full_and_all_of_it_is_ours(fake: FakeS3, tmp_path: Path) -> None:
    """What was not used for longest goes, though no limit of ours is reached."""
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        async with watched(fake, cache=kept(disk / "cache")) as watch:
            for number in range(12):
                watch.put(f"film{number}", FILM[number:])
                await whole(watch, f"film{number}")
                await eventually(watch.cache.may_write)
            assert watch.rose(ERRORS) == 0
            assert watch.rose("rangeserver_cache_evictions_total") > 0
            await whole(watch, "film11")
            fake.requests.clear()
            await whole(watch, "film11")
            assert not [seen for seen in fake.requests if seen.key == "film11"]


def truncated(path: Path) -> None:
    os.truncate(path, LAYOUT.data_offset + MIB)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def lengthened(path: Path) -> None:
    os.truncate(path, LAYOUT.file_bytes + 1)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def flipped(path: Path) -> None:
    for block in range(0, LAYOUT.blocks, 3):
        flip(path, LAYOUT.data_offset + LAYOUT.start(block) + 5)


def header_flipped(path: Path) -> None:
    flip(path, 100)


def records_flipped(path: Path) -> None:
    for block in range(0, LAYOUT.blocks, 5):
        flip(path, LAYOUT.record_offset(block) + 6)


def foreign(path: Path) -> None:
    path.write_bytes(b"<html>" * 1000)


def foreign_of_this_length(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(random.Random(3).randbytes(LAYOUT.file_bytes))


def foreign_in_its_place(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(random.Random(3).randbytes(LAYOUT.file_bytes))
    other.replace(path)


def deleted(path: Path) -> None:
    path.unlink()


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("of somebody else")


def a_symlink(path: Path) -> None:
    outside = path.parents[3] / "outside"
    shutil.copyfile(path, outside)
    path.unlink()
    path.symlink_to(outside)


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unreadable_in_part(path: Path) -> None:
    """A hole where bytes were."""
    with path.open("r+b") as file:
        file.seek(LAYOUT.data_offset + BLOCK)
        file.write(bytes(BLOCK))


CHANGES: list[Callable[[Path], None]] = [
    *(truncated, emptied, lengthened, flipped, header_flipped, records_flipped),
    *(foreign, foreign_of_this_length, foreign_in_its_place, unreadable_in_part),
    *(deleted, a_directory, a_symlink, a_fifo),
]

NOT_OURS = {foreign, foreign_of_this_length, foreign_in_its_place, a_directory, a_symlink, a_fifo}
"""What somebody else has put there stays, and is gone past."""

# Blocks that a process has checked or written are believed by it: the page cache they lie in is
# memory, and whoever may write to it may write to the process. Not among what is done under it:
CHECKED_ONCE = {flipped, foreign_of_this_length, unreadable_in_part}


def identity(path: Path) -> tuple[int, ...] | None:
    """Which file it is, and whether it was written to."""
    if not os.path.lexists(path):
        return None
    stat = path.lstat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


@pytest.mark.parametrize("change", CHANGES)
async def test_c03_between_two_runs(
    fake: FakeS3, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    cache = kept(tmp_path / "cache")
    async with watched(fake, cache=cache) as watch:
        watch.put("film", FILM)
        await whole(watch)
        await whole(watch)
        assert fake.sent["film"] == len(FILM)
    path = the_file(tmp_path / "cache")
    change(path)
    changed = identity(path)
    async with watched(fake, cache=cache) as watch:
        watch.put("film", FILM)
        await whole(watch)
        assert fake.sent["film"] > len(FILM)
        if change is not deleted:
            assert watch.rose(ERRORS) > 0
        fetched = fake.sent["film"]
        await whole(watch)
        await watch.get("/film", Range=f"bytes={MIB}-{MIB + 5}")
        if change not in NOT_OURS:
            assert fake.sent["film"] == fetched
        assert watch.cache.may_write()
    if change in NOT_OURS:
        assert identity(path) == changed
    assert (tmp_path / "outside").exists() == (change is a_symlink)


@pytest.mark.parametrize("change", [each for each in CHANGES if each not in CHECKED_ONCE])
async def test_c03_under_a_running_server(
    fake: FakeS3, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    async with watched(fake, cache=kept(tmp_path / "cache")) as watch:
        watch.put("film", FILM)
        await whole(watch)
        change(the_file(tmp_path / "cache"))
        for _ in range(3):
            await whole(watch)
            await watch.get("/film", Range=f"bytes={MIB}-{MIB + 5}")
        assert watch.cache.may_write()


@pytest.mark.parametrize("change", [flipped, foreign_of_this_length, unreadable_in_part])
async def test_c03_found_at_first_use(
    fake: FakeS3, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Two processes, here two servers: one has checked the blocks, the other not yet."""
    cache = kept(tmp_path / "cache")
    async with watched(fake, cache=cache) as watch:
        watch.put("film", FILM)
        await whole(watch)
        async with watched(fake, cache=cache) as other:
            other.put("film", FILM)
            head = await other.get("/film", Range="bytes=0-0")
            assert head.status == 206
            change(the_file(tmp_path / "cache"))
            received = await other.get("/film", Range=f"bytes={BLOCK}-{len(FILM) - 1}")
            assert (received.status, received.complete) == (206, True)
            if change is not foreign_of_this_length:
                assert other.rose(ERRORS, kind="damaged") > 0


async def test_c03_cut_short_while_it_is_sent(fake: FakeS3, tmp_path: Path) -> None:
    """To one who stalls: what the file has no longer is fetched anew."""
    film = FILM * 4
    async with watched(fake, cache=kept(tmp_path)) as watch:
        watch.put("film", film)
        await whole(watch)
        async with await RawClient.connect(watch.app.port, receive_buffer=4096) as client:
            await client.ask("/film")
            watch.asked += 1
            await eventually(lambda: bool(watch.app.room._waiting))
            os.truncate(the_file(tmp_path, film), LAYOUT.data_offset)
            response = await client.response()
            assert (response.complete, response.body == film) == (True, True)
        await whole(watch)


async def test_c03_cut_short_while_it_is_fetched(fake: FakeS3, tmp_path: Path) -> None:
    """What is written behind the cut would make the file as long as before, with a hole in it."""
    async with watched(fake, cache=kept(tmp_path)) as watch:
        watch.put("film", FILM)
        begun = await watch.get("/film", Range=f"bytes=0-{2 * MIB - 1}")
        assert (begun.status, begun.complete) == (206, True)
        fake.misbehave(faults.stall_after(0), key="film")
        async with await RawClient.connect(watch.app.port) as client:
            await client.ask("/film", Range=f"bytes={2 * MIB}-")
            watch.asked += 1
            await eventually(lambda: fake.stalled > 0)
            os.truncate(the_file(tmp_path), LAYOUT.data_offset)
            fake.behave()
            fake.release()
            response = await client.response()
            assert (response.complete, response.body) == (True, FILM[2 * MIB :])
        for _ in range(2):
            await whole(watch)
        assert watch.cache.may_write()


async def test_c03_the_directory_is_removed(
    fake: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again: what is cached goes with it, nothing else."""
    monkeypatch.setattr("rangeserver.cache.maintenance._RETRY_SECONDS", 0.2)
    monkeypatch.setattr("rangeserver.cache.version_entries._SEEN_SECONDS", 0.0)
    directory = tmp_path / "cache"
    async with watched(fake, cache=kept(directory)) as watch:
        watch.put("film", FILM)
        await whole(watch)
        shutil.rmtree(directory)
        await whole(watch)
        await eventually(lambda: (directory / "new").is_dir() and watch.cache.may_write(), 3.0)
        await whole(watch)
        fetched = fake.sent["film"]
        await whole(watch)
        assert fake.sent["film"] == fetched
        assert the_file(directory).is_file()
