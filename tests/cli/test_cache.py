"""The commands on the cache, beside a server that uses it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cache.files import CONTENT, NOW, damage, keep, opened
from tests.cli.cache_commands import (
    FILM,
    MIB,
    NAME,
    OTHER,
    cache_files,
    command,
    damage_the_end,
    serving,
    told,
)
from tests.cli.commands import Way, run, start
from tests.cli.forked import run_forked
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, eventually, running_app


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {NAME: FILM}


@pytest.mark.parametrize("way", [run, run_forked])
async def test_stats(way: Way, tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "a")
    keep(directory, "b", [1])
    (tmp_path / "mine.txt").touch()
    finished = await command(tmp_path, "stats", way=way, RANGESERVER_CACHE__MAX_BYTES="1MiB")
    assert (finished.code, finished.err) == (0, "")
    lines = finished.out.splitlines()
    assert lines[0] == f"directory  {tmp_path}"
    assert lines[1] == "objects    2: 1 complete, 1 in part"
    assert re.fullmatch(r"on disk    \d+\.0 KiB of 1\.0 MiB \(\d+ %\)", lines[2])
    assert re.fullmatch(r"free       .* [KMGT]iB, at least 1\.0 GiB is left(, .*)?", lines[3])
    assert lines[4].startswith("last used  ")
    assert lines[5] == f"not ours   1 file, left alone: {tmp_path}/mine.txt"


async def test_stats_tell_what_servers_hold_of_removed_objects(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    directory.usage.recount(lambda: 0)
    directory.usage.hold(5 << 20)
    held = "held       5.0 MiB of removed objects that are still being sent"
    assert held in (await command(tmp_path, "stats")).out.splitlines()
    directory.close()
    assert held not in (await command(tmp_path, "stats")).out.splitlines()


async def test_stats_for_programs(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "a")
    keep(directory, "b", [1], used=NOW - 86_400)
    found = json.loads((await command(tmp_path, "stats", "--json")).out)
    assert found["disk_bytes"] == sum(p.stat().st_blocks * 512 for p in cache_files(tmp_path))
    assert found["free_bytes"] > 0
    del found["disk_bytes"], found["free_bytes"]
    assert found == {
        "directory": str(tmp_path),
        "objects": 2,
        "complete_objects": 1,
        "partial_objects": 1,
        "cached_bytes": len(CONTENT) + 16 * 1024,
        "held_bytes": 0,
        "max_bytes": 10 << 30,
        "min_free_bytes": 1 << 30,
        "oldest_use": "2027-01-14T08:00:00Z",
        "newest_use": "2027-01-15T08:00:00Z",
        "unusable_files": 0,
        "foreign_files": 0,
    }


async def test_list(fake: FakeS3, tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "a b", [1], endpoint_url=fake.endpoint_url, used=NOW - 10)
    keep(directory, "c\u202e\n", bucket="others", used=NOW)
    finished = await command(tmp_path, "list", fake=fake)
    assert (finished.code, finished.err) == (0, "")
    head, first, second = finished.out.splitlines()
    assert head.split() == ["cached", "size", "%", "used", "checked", "etag", "key"]
    assert first.endswith(r"'s3://others/c\u202e\n'")
    assert second.split()[:5] == ["16.0", "KiB", "160.1", "KiB", "9"]
    assert second.endswith("  a b")


async def test_list_of_what_is_named(fake: FakeS3, tmp_path: Path) -> None:
    directory = opened(tmp_path)
    for number, key in enumerate(("films/a b", "films/c", "films", "d")):
        keep(directory, key, endpoint_url=fake.endpoint_url, used=NOW - number)
    keep(directory, "e", bucket="others", used=NOW - 10)

    async def listed(*keys: str, fake: FakeS3 | None = fake) -> list[str]:
        finished = await command(tmp_path, "list", "--json", *keys, fake=fake)
        assert (finished.code, finished.err) == (0, "")
        return [json.loads(line)["object"] for line in finished.out.splitlines()]

    assert await listed("films/") == ["films/a b", "films/c"]
    assert await listed("d", "/films/a b") == ["films/a b", "d"]
    assert await listed("films", "films/", "/films/c") == ["films/a b", "films/c", "films"]
    assert await listed("/") == ["films/a b", "films/c", "films", "d"]
    assert await listed("s3://others/e", fake=None) == ["e"]
    assert await listed("s3://films/films/", fake=None) == ["films/a b", "films/c"]

    finished = await command(tmp_path, "list", "d", "nix", "nix/", "film", fake=fake)
    assert len(finished.out.splitlines()) == 2
    assert finished.err.splitlines() == [
        f"{key}: nothing in the cache" for key in ("nix", "nix/", "film")
    ]
    refused = await command(tmp_path, "list", "d")
    assert refused.code == 78
    assert told(refused) == "rangeserver: config: origin.bucket: must name the bucket to serve"


async def test_purge_of_what_is_not_served(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    for key in ("a", "b/c", "b/d"):
        keep(directory, key, bucket="others")
    kept = keep(directory, "a")
    finished = await command(tmp_path, "purge", "s3://others/a", "s3://others/b/", "s3://others/")
    assert (finished.code, finished.err) == (0, "")
    assert [line.rpartition(",")[0] for line in finished.out.splitlines()] == [
        "s3://others/a: removed 1 object",
        "s3://others/b/: removed 2 objects",
        "",
    ]
    assert cache_files(tmp_path) == [kept]


async def test_list_for_programs(tmp_path: Path) -> None:
    path = keep(opened(tmp_path), "public/a b", [1])
    expected = {
        "key": None,
        "endpoint": "aws",
        "bucket": "films",
        "object": "public/a b",
        "size": len(CONTENT),
        "cached_bytes": 16 * 1024,
        "disk_bytes": path.stat().st_blocks * 512,
        "percent": 9,
        "last_used": "2027-01-15T08:00:00Z",
        "checked": "2027-01-15T07:59:00Z",
        "etag": '"v1"',
    }
    assert json.loads((await command(tmp_path, "list", "--json")).out) == expected
    served = await command(
        *(tmp_path, "list", "--json", "--bucket", "films", "--prefix", "public/"),
    )
    assert json.loads(served.out) == {**expected, "key": "a b"}


async def test_verify(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    good = keep(directory, "good")
    assert (await command(tmp_path, "verify")).out.endswith("nothing is damaged\n")
    bad, broken = keep(directory, "bad"), keep(directory, "broken")
    damage(bad, 3)
    os.truncate(broken, 100)
    finished = await command(tmp_path, "verify")
    assert (finished.code, finished.err) == (1, "")
    assert sorted(finished.out.splitlines()) == sorted(
        [
            f"{broken}: too short",
            "s3://films/bad: 1 of 11 blocks damaged",
            "checked 3 objects, 320.2 KiB: 2 damaged, left as they are; --remove removes them",
        ]
    )
    assert bad.exists()
    finished = await command(tmp_path, "verify", "--remove", "--bucket", "films")
    assert (finished.code, finished.err) == (0, "")
    assert "bad: 1 of 11 blocks damaged\n" in finished.out
    assert finished.out.endswith("2 damaged, removed\n")
    assert (good.exists(), bad.exists(), broken.exists()) == (True, False, False)
    assert (await command(tmp_path, "verify")).code == 0


async def test_what_is_not_ours_is_told_and_left(tmp_path: Path) -> None:
    """Whatever is asked for, and though it is named as ours are."""
    directory = opened(tmp_path)
    mine, bad = keep(directory, "mine"), keep(directory, "bad")
    mine.write_bytes(b"mine")
    os.truncate(bad, 0)
    finished = await command(tmp_path, "verify", "--remove")
    assert (finished.code, finished.err) == (1, "")
    assert f"{mine}: not a cache file\n" in finished.out
    assert finished.out.endswith("2 damaged, 1 removed; the others are gone, or not ours\n")
    finished = await command(tmp_path, "purge", "--all")
    assert (finished.code, finished.out) == (0, "everything: nothing in the cache\n")
    assert mine.read_bytes() == b"mine"
    assert not bad.exists()


async def test_what_verify_removes_a_server_fetches_anew(fake: FakeS3, tmp_path: Path) -> None:
    async with (
        running_app(serving(fake, tmp_path)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/films/a%20b.mp4")).body == FILM
        damage_the_end(tmp_path)  # a block that the server has checked, and trusts
        assert (await command(tmp_path, "verify", fake=fake)).code == 1
        assert (await command(tmp_path, "verify", "--remove", fake=fake)).code == 0
        assert (await client.get("/films/a%20b.mp4")).body == FILM


async def test_purge_is_noticed_at_once(fake: FakeS3, tmp_path: Path) -> None:
    async with (
        running_app(serving(fake, tmp_path)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/films/a%20b.mp4")).body == FILM
        asked = len(fake.requests)
        assert (await client.get("/films/a%20b.mp4")).body == FILM
        assert len(fake.requests) == asked
        # The same version with other bytes, as no origin has it, tells from where they come.
        fake.put(NAME, OTHER, etag=fake.etag(NAME))
        finished = await command(tmp_path, "purge", NAME, fake=fake)
        assert (finished.code, finished.err) == (0, "")
        assert finished.out.startswith("films/a b.mp4: removed 1 object, 5.0 MiB")
        await asyncio.sleep(0.02)  # it counts 10 ms later
        anew = (await client.get("/films/a%20b.mp4")).body == OTHER
        assert anew  # not compared in the assertion: to show where so much differs takes minutes
        again = await command(tmp_path, "purge", "/films/a b.mp4", "nix", fake=fake)
        assert again.out.splitlines()[0].startswith("/films/a b.mp4: removed 1 object")
        assert again.out.splitlines()[1] == "nix: nothing in the cache"


@pytest.mark.parametrize("which", [0, 1], ids=["one process", "another on the same directory"])
async def test_nothing_that_was_known_before_a_purge_is_told_after_it(
    fake: FakeS3, tmp_path: Path, which: int
) -> None:
    """What needs no byte of an object is told from memory, which no file that is gone changes."""
    config = serving(fake, tmp_path)
    fake.put("empty", b"")
    fake.put("gone", b"here")
    async with (
        running_app(config) as one,
        running_app(config) as other,
        await RawClient.connect((one, other)[which].port) as client,
    ):
        known = (await client.get("/films/a%20b.mp4")).headers["etag"]
        assert [(await client.get(f"/{key}")).body for key in ("empty", "gone")] == [b"", b"here"]
        assert (await client.get("/new")).status == 404
        fake.put(NAME, OTHER)
        fake.put("empty", b"no more")
        fake.put("new", b"is here")
        fake.delete("gone")
        for key in (NAME, "empty", "new", "gone"):  # most have no file: that something was purged
            await command(tmp_path, "purge", key, fake=fake)
        await asyncio.sleep(0.02)  # it counts 10 ms later
        checked = await client.get("/films/a%20b.mp4", **{"If-None-Match": known})
        assert (checked.status, checked.body == OTHER) == (200, True)
        assert (await client.get("/empty")).body == b"no more"
        assert (await client.get("/new")).body == b"is here"
        assert (await client.get("/gone", method="HEAD")).status == 404


async def test_a_stream_goes_on_over_a_purge(fake: FakeS3, tmp_path: Path) -> None:
    film = random.Random(4).randbytes(24 * MIB)  # more than sockets hold
    fake.put("film", film)
    async with running_app(serving(fake, tmp_path)) as app:
        async with await RawClient.connect(app.port) as first:
            assert (await first.get("/film")).body == film
        async with await RawClient.connect(app.port, receive_buffer=65536) as client:
            await client.ask("/film")
            status, _ = await client.head()
            begun = await client.receive()
            finished = await command(tmp_path, "purge", "--all")
            assert finished.out.startswith("everything: removed 1 object, 24.0 MiB")
            asked = len(fake.requests)
            while len(begun) < len(film):
                more = await client.receive(MIB)
                assert more
                begun += more
            assert (status, begun == film) == (200, True)
            assert len(fake.requests) == asked


async def test_a_stream_of_what_is_not_all_there_goes_on_over_a_purge(
    fake: FakeS3, tmp_path: Path
) -> None:
    fake.misbehave(faults.stall_after(MIB // 2), times=1)
    async with (
        running_app(serving(fake, tmp_path)) as app,
        await RawClient.connect(app.port) as client,
    ):
        await client.ask("/films/a%20b.mp4")
        await eventually(lambda: fake.stalled == 1)
        await command(tmp_path, "purge", "--all")
        fake.release()
        response = await client.response()
        assert (response.body == FILM, response.complete) == (True, True)


async def test_purge_below_a_prefix(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("""
        origin.bucket = "films"
        [[mounts]]
        path = "/x/cuts/"
        bucket = "cuts"
        prefix = "public/"
    """)
    cache = tmp_path / "cache"
    directory = opened(cache)
    paths = {
        name: keep(directory, key, bucket=bucket)
        for name, bucket, key in (
            ("x/a", "films", "x/a"),
            ("x/cuts/b", "cuts", "public/b"),
            ("xy", "films", "xy"),
            ("hidden", "films", "x/cuts/b"),
            ("private", "cuts", "private/c"),
        )
    }

    async def purge(key: str) -> tuple[str, set[str]]:
        finished = await command(cache, "purge", key, "--config", str(config))
        assert (finished.code, finished.err) == (0, "")
        gone = {name for name, path in paths.items() if not path.exists()}
        for name in gone:
            del paths[name]
        return finished.out, gone

    assert await purge("nix/") == ("nix/: nothing in the cache\n", set())
    assert (await purge("x/cuts/"))[1] == {"x/cuts/b"}
    keep(directory, "public/b", bucket="cuts")
    out, gone = await purge("/x/")
    assert gone == {"x/a"}
    assert out.startswith("/x/: removed 2 objects")
    assert (await purge("/"))[1] == {"xy"}
    assert set(paths) == {"hidden", "private"}


async def test_what_purge_needs(tmp_path: Path) -> None:
    opened(tmp_path)
    for arguments in (("purge",), ("purge", "a", "--all")):
        finished = await command(tmp_path, *arguments)
        assert finished.code == 2
        assert "Name a KEY or a PREFIX/, or everything with --all." in finished.err
    finished = await command(tmp_path, "purge", "a")
    assert finished.code == 78
    assert told(finished) == "rangeserver: config: origin.bucket: must name the bucket to serve"
    config = tmp_path / "config.toml"
    config.write_text('[[mounts]]\npath = "/x/"\nbucket = "films"')
    finished = await command(tmp_path, "purge", "y", "--config", str(config))
    assert finished.code == 2
    assert told(finished) == "rangeserver: cache: 'y' names no object: name one below /x/"


async def test_no_secrets_are_needed_to_look(tmp_path: Path) -> None:
    keep(opened(tmp_path), "a")
    for arguments in (("stats",), ("list",), ("verify",), ("purge", "a", "--bucket", "films")):
        finished = await command(
            tmp_path, *arguments, RANGESERVER_ORIGIN__SSE_CUSTOMER_KEY_FILE="/nowhere/key"
        )
        assert (finished.code, finished.err) == (0, "")


@pytest.mark.parametrize("name", ["stats", "list", "verify", "purge"])
async def test_no_cache_is_made_by_looking(name: str, tmp_path: Path) -> None:
    arguments = (name, "--all") if name == "purge" else (name,)
    for directory in (tmp_path / "none", tmp_path):
        finished = await command(directory, *arguments)
        assert finished.code == 1
        assert told(finished) == f"rangeserver: cache: {directory}: there is no cache here"
    assert not os.listdir(tmp_path)


async def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    for number in range(20):
        keep(directory, str(number), [])
    process = await start("cache", "list", "--cache-dir", str(tmp_path))
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert process.stderr is not None
    assert await process.stderr.read() == b""
    await process.wait()


async def test_a_terminal_is_shown_progress(tmp_path: Path) -> None:
    keep(opened(tmp_path), "film")
    terminal, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rangeserver", "cache", "verify", "--cache-dir", str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=theirs,
        )
        out, _ = await process.communicate()
        shown = os.read(terminal, 65536).decode()
    finally:
        os.close(theirs)
        os.close(terminal)
    assert out == b"checked 1 object, 160.1 KiB: nothing is damaged\n"
    assert re.search(r"verifying  \[#+\]  100%  160\.1 KiB of 160\.1 KiB", shown)


async def test_a_directory_that_cannot_be_read(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "objects").rmdir()
    (tmp_path / "objects").symlink_to("objects")
    for name in ("stats", "verify", "purge"):
        arguments = (name, "--all") if name == "purge" else (name,)
        finished = await command(tmp_path, *arguments)
        assert finished.code == 1
        line = told(finished)
        assert line == f"rangeserver: cache: {tmp_path}: objects in it is not a directory"
