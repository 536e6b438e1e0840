"""``rangeserver cache warm``, which comes to the cache by the way of any request."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rangeserver.cache.blocks import HEADER_BYTES
from rangeserver.cache.cache_key import cache_key_of
from rangeserver.cache.directory import Directory
from rangeserver.cache.header import pack_header, read_header
from rangeserver.cache.inspection import summarize
from rangeserver.cli.main import main
from tests.cache.files import keep, opened
from tests.cli.cache_commands import (
    FILM,
    MIB,
    NAME,
    OTHER,
    cache_files,
    command,
    damage_the_end,
    origin_of,
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
async def test_warm(way: Way, fake: FakeS3, tmp_path: Path) -> None:
    finished = await command(tmp_path, "warm", NAME, fake=fake, way=way)
    assert (finished.code, finished.err) == (0, "")
    assert finished.out == "films/a b.mp4: 5.0 MiB from the origin, 0 B were there\n"
    reads = len(fake.seen("GET"))
    finished = await command(tmp_path, "warm", "/films/a b.mp4", fake=fake)
    assert finished.out == "/films/a b.mp4: 0 B from the origin, 5.0 MiB were there\n"
    assert len(fake.seen("GET")) == reads
    async with (
        running_app(serving(fake, tmp_path)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/films/a%20b.mp4")).body == FILM
    assert len(fake.seen("GET")) == reads


async def warmed(fake: FakeS3, directory: Path) -> None:
    assert (await command(directory, "warm", NAME, fake=fake)).code == 0


async def asked_for_and_read(fake: FakeS3, directory: Path) -> None:
    """By a server that was asked for facts first, and made a file for them later."""
    async with (
        running_app(serving(fake, directory)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/films/a%20b.mp4", method="HEAD")).status == 200
        assert (await client.get("/films/a%20b.mp4")).body == FILM


async def test_what_was_warmed_does_not_go_before_what_was_read_once(
    fake: FakeS3, tmp_path: Path
) -> None:
    await warmed(fake, tmp_path)
    fake.put("read", OTHER)
    async with (
        running_app(serving(fake, tmp_path)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/read")).body == OTHER
    directory = Directory(tmp_path)
    cache_keys = [cache_key_of(fake.endpoint_url, fake.bucket, key) for key in (NAME, "read")]
    warmed_file, read_file = (directory.find_listed(cache_key) for cache_key in cache_keys)
    assert warmed_file is not None
    assert read_file is not None
    assert (warmed_file.reused, read_file.reused) == (True, False)


@pytest.mark.parametrize("way", [warmed, asked_for_and_read])
async def test_it_is_noted_when_the_origin_was_asked(
    fake: FakeS3, tmp_path: Path, way: Callable[[FakeS3, Path], Awaitable[None]]
) -> None:
    """And so what is kept plays on while the origin is away, for those who have asked as well."""
    before = datetime.now(UTC)
    await way(fake, tmp_path)
    (found,) = map(json.loads, (await command(tmp_path, "list", "--json")).out.splitlines())
    assert before.replace(microsecond=0) <= datetime.fromisoformat(found["checked"])
    _, row = (await command(tmp_path, "list", fake=fake)).out.splitlines()
    assert re.search(r"  100 +\d+ s +\d+ s  ", row)
    await fake.refuse()
    async with (
        running_app(serving(fake, tmp_path, ttl_seconds=0)) as app,
        await RawClient.connect(app.port) as client,
    ):
        for _ in range(2):
            assert (await client.get("/films/a%20b.mp4")).body == FILM
    await fake.listen()


async def test_what_nobody_was_told_of_is_listed_as_such(tmp_path: Path) -> None:
    """As earlier versions have left it."""
    path = keep(opened(tmp_path), "film")
    with path.open("r+b") as file:
        header = read_header(file.read(HEADER_BYTES))
        file.seek(0)
        file.write(pack_header(replace(header, readers={})))
    _, row = (await command(tmp_path, "list")).out.splitlines()
    assert "  never  " in row
    assert json.loads((await command(tmp_path, "list", "--json")).out)["checked"] is None


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("0-1048575", (0, 4)),
        ("bytes=262143-262144", (0, 2)),
        ("-500", (20, 21)),
        ("bytes=-20000", (19, 21)),
        ("5242880-", (20, 21)),
    ],
)
async def test_warm_a_range(
    wanted: str, there: tuple[int, int], fake: FakeS3, tmp_path: Path
) -> None:
    finished = await command(tmp_path, "warm", NAME, wanted, fake=fake)
    assert (finished.code, finished.err) == (0, "")
    (found,) = map(json.loads, (await command(tmp_path, "list", "--json")).out.splitlines())
    block = 256 * 1024
    assert found["cached_bytes"] == min(there[1] * block, len(FILM)) - there[0] * block


@pytest.mark.parametrize("wanted", ["5-3", "-", "1,2", "0-1,3-4", "items=0-1", "x", ""])
def test_what_is_no_range(wanted: str) -> None:
    result = CliRunner().invoke(main, ["cache", "warm", "a", wanted])
    assert result.exit_code == 2
    assert "write one like 0-1048575, 1048576- or -500" in result.stderr


async def test_warm_takes_the_version_of_now(fake: FakeS3, tmp_path: Path) -> None:
    await command(tmp_path, "warm", NAME, "0-9", fake=fake)
    fake.put(NAME, OTHER)
    finished = await command(tmp_path, "warm", NAME, fake=fake)
    assert finished.out == "films/a b.mp4: 5.0 MiB from the origin, 0 B were there\n"
    (found,) = map(json.loads, (await command(tmp_path, "list", "--json")).out.splitlines())
    assert (found["percent"], found["etag"]) == (100, fake.etag(NAME))


async def test_warm_mends_what_is_damaged(fake: FakeS3, tmp_path: Path) -> None:
    await command(tmp_path, "warm", NAME, fake=fake)
    damage_the_end(tmp_path)
    finished = await command(tmp_path, "warm", NAME, fake=fake)
    assert finished.code == 0
    assert "1 damaged block" in finished.err
    assert (await command(tmp_path, "verify")).code == 0


async def test_an_empty_object_needs_no_warming(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("empty", b"")
    finished = await command(tmp_path, "warm", "empty", fake=fake)
    assert (finished.code, finished.err) == (0, "")
    assert finished.out == "empty: 0 B from the origin, 0 B were there\n"


async def test_what_cannot_be_warmed(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("secret", b"x", Cache_Control="no-store")
    none: dict[str, Any] = {}
    limits: dict[str, Any] = {"RANGESERVER_CACHE__MAX_BYTES": "4MiB"}
    for arguments, environ, problem in (
        (
            ("nix",),
            none,
            "nix: There is no object under this key. (origin answered 404 NoSuchKey",
        ),
        (("secret",), none, "secret: its Cache-Control does not allow to keep it: no-store"),
        (
            (NAME, "9000000-"),
            none,
            f"{NAME}: the range lies outside the object, which has 5255225",
        ),
        ((NAME,), limits, f"{NAME}: 5255225 bytes are more than cache.max_bytes has room for"),
        (("k" * 1025,), none, f"{'k' * 1025}: The object key is longer than 1024 bytes."),
    ):
        finished = await command(tmp_path, "warm", *arguments, fake=fake, **environ)
        assert finished.code == 1
        assert told(finished).startswith(f"rangeserver: cache: {problem}")
    assert not cache_files(tmp_path)


async def test_warm_from_an_origin_that_is_down(fake: FakeS3, tmp_path: Path) -> None:
    await command(tmp_path, "warm", NAME, fake=fake)
    await fake.refuse()
    finished = await command(tmp_path, "warm", NAME, fake=fake)
    assert finished.code == 1
    problem = "rangeserver: cache: films/a b.mp4: The origin cannot be reached. ("
    assert told(finished).startswith(problem)
    await fake.listen()
    fake.misbehave(faults.error(503, "SlowDown"))
    await command(tmp_path, "purge", "--all")
    finished = await command(tmp_path, "warm", NAME, fake=fake)
    assert finished.code == 1
    assert "The origin is throttling requests" in told(finished)


async def test_warm_where_nothing_can_be_kept(fake: FakeS3, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory, environ, problem in (
        (tmp_path, {"RANGESERVER_CACHE__ENABLED": "false"}, "cache.enabled: is false"),
        (tmp_path / "file", {}, f"cache.directory: {tmp_path / 'file'} cannot be used: "),
        (tmp_path, {}, f"cache.directory: {tmp_path} cannot be used: it holds other files"),
    ):
        # Where it need not be usable it must be for this.
        more: dict[str, Any] = {"RANGESERVER_CACHE__REQUIRED": "false", **environ}
        finished = await command(directory, "warm", NAME, fake=fake, **more)
        assert finished.code == 78
        assert told(finished).startswith(f"rangeserver: config: {problem}")
    key = tmp_path / "key"
    key.write_bytes(bytes(32))
    finished = await command(
        *(tmp_path / "cache", "warm", NAME),
        fake=fake,
        RANGESERVER_ORIGIN__SSE_CUSTOMER_KEY_FILE=str(key),
    )
    assert finished.code == 78
    assert told(finished).startswith("rangeserver: config: origin.sse_customer_key_file: is set")


async def test_warm_where_too_little_is_free(fake: FakeS3, tmp_path: Path) -> None:
    finished = await command(
        *(tmp_path, "warm", NAME), fake=fake, RANGESERVER_CACHE__MIN_FREE_BYTES="8EiB"
    )
    assert finished.code == 1
    line = told(finished)
    assert "films/a b.mp4: the cache cannot be written to (" in line
    assert "less is free than cache.min_free_bytes" in line


async def test_warm_beside_a_server_that_fetches_the_same(fake: FakeS3, tmp_path: Path) -> None:
    fake.misbehave(faults.drip(256 * 1024, 0.02))
    async with (
        running_app(serving(fake, tmp_path)) as app,
        await RawClient.connect(app.port) as client,
    ):
        await client.ask("/films/a%20b.mp4")
        await client.head()
        finished = await command(tmp_path, "warm", NAME, fake=fake)
        assert (finished.code, finished.err) == (0, "")
        assert (await client.receive())[:10] == FILM[:10]
    spans = [seen.headers["range"].removeprefix("bytes=") for seen in fake.seen("GET")]
    starts = [span.partition("-")[0] for span in spans]
    assert len(starts) == len(set(starts))


async def test_an_interrupted_warming_keeps_what_has_come(fake: FakeS3, tmp_path: Path) -> None:
    fake.misbehave(faults.stall_after(MIB // 2), skip=1)
    arguments = ("cache", "warm", NAME, "--cache-dir", str(tmp_path))
    process = await start(*arguments, environ=origin_of(fake))
    directory = Directory(tmp_path)
    await eventually(lambda: fake.stalled > 0 and summarize(directory).cached_bytes >= MIB)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert err == b"rangeserver: cache: films/a b.mp4: interrupted; what has come is kept\n"
    (found,) = map(json.loads, (await command(tmp_path, "list", "--json")).out.splitlines())
    assert found["cached_bytes"] >= MIB
    assert (await command(tmp_path, "verify")).code == 0
