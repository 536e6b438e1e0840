"""Objects that cannot be cached for a reason of their own: they are served, others are cached as
ever, and the log says it once in a while.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from rangeserver.cache.cache_key import cache_key_of
from rangeserver.cache.directory import Directory
from tests.cli.commands import served
from tests.exposition import parsed
from tests.fakes.faults import Answer
from tests.fakes.s3 import FakeS3
from tests.faults.test_cache_calls import against, environ
from tests.faults.test_cache_disk import kept
from tests.faults.tools import needs
from tests.support import RawClient, config_for, running_app

FILM = random.Random(1).randbytes(3 << 20)
OTHER = random.Random(2).randbytes(300_000)
TIMES = 30


def a_directory_in_its_place(fake: FakeS3, directory: Path) -> None:
    cache = Directory(directory)
    cache.open()
    place = Path(cache.path_of(cache_key_of(fake.endpoint_url, fake.bucket, "film")))
    place.mkdir(parents=True)


def a_file_of_somebody_else(fake: FakeS3, directory: Path) -> None:
    a_directory_in_its_place(fake, directory)
    (place,) = (directory / "objects").glob("*/*")
    place.rmdir()
    place.write_text("mine")


def much_metadata(fake: FakeS3, _: Path) -> None:
    fake.put(
        "film",
        FILM,
        Cache_Control="max-age=9, " + "a" * 3000,
        Content_Language="b" * 3000,
        Content_Type="video/mp4; c=" + "c" * 3000,
    )


CAUSES = [a_directory_in_its_place, a_file_of_somebody_else, much_metadata]


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("ttl_seconds", [0, 60])
async def test_an_object_that_cannot_be_cached(
    fake: FakeS3,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    cause: Callable[[FakeS3, Path], None],
    ttl_seconds: float,
) -> None:
    caplog.set_level(logging.INFO)
    fake.put("film", FILM)
    fake.put("other", OTHER)
    cause(fake, tmp_path)
    cache = {**kept(tmp_path), "enabled": True, "min_free_bytes": 0}
    config = config_for(fake, cache={**cache, "ttl_seconds": ttl_seconds})
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        for number in range(TIMES):
            response = await client.get("/film", Range=f"bytes={number}-")
            assert (response.status, response.body) == (206, FILM[number:])
            assert (await client.get("/other")).body == OTHER
        assert app.cache is not None
        assert app.cache.may_write()
        assert len([seen for seen in fake.seen("GET") if seen.key == "other"]) <= 2
    told = [record for record in caplog.records if record.name.startswith("rangeserver.cache")]
    assert len(told) == 1
    assert "read past it for 60 s" in told[0].getMessage()


@needs("prlimit")
async def test_an_object_larger_than_a_file_may_be(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("film", FILM)
    fake.put("other", OTHER)
    prefix = ("prlimit", "--fsize=1048576")
    variables = environ(tmp_path / "cache")
    async with (
        served(*against(fake), environ=variables, prefix=prefix) as server,
        await RawClient.connect(server.port) as client,
        await RawClient.connect(server.admin_port) as admin,
    ):
        for _ in range(5):
            assert (await client.get("/film")).body == FILM
            assert (await client.get("/other")).body == OTHER
        assert len([seen for seen in fake.seen("GET") if seen.key == "other"]) <= 2
        now = parsed((await admin.get("/metrics")).body.decode())
        assert now("rangeserver_cache_usable") == 1
        assert now("rangeserver_cache_errors_total", kind="write") == 0
        while not any("read past it" in str(line.get("message")) for line in server.lines):
            await server.line()
    told = [line["message"] for line in server.lines if line.get("level") == "WARNING"]
    assert [line.partition(" s: ")[2] for line in told] == ["File too large"]


SIGNINGS = pytest.mark.parametrize("signing", ["per-object", "per-request"])
CACHED = pytest.mark.parametrize("cached", [False, True])


@pytest.mark.fault("C15")
@SIGNINGS
@CACHED
@pytest.mark.parametrize("size", [(1 << 63) - 1, 1 << 63, 10**19 - 1])
async def test_an_object_larger_than_any_file(
    fake: FakeS3, tmp_path: Path, signing: str, size: int, *, cached: bool
) -> None:
    def huge(answer: Answer) -> Answer:
        told = dict(answer.headers)
        if answer.status == 206:
            part = told["Content-Range"].rpartition("/")[0]
            return answer.with_header("Content-Range", f"{part}/{size}")
        return answer.with_header("Content-Length", str(size))

    fake.put("film", FILM)
    fake.misbehave(huge, method=None)
    cache = {**kept(tmp_path), "enabled": cached, "min_free_bytes": 0}
    config = config_for(fake, origin={"signing": signing}, cache=cache)
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        for _ in range(3):
            head = await client.get("/film", method="HEAD")
            assert (head.status, head.headers["content-length"]) == (200, str(size))
            response = await client.get("/film", Range="bytes=0-99999")
            assert (response.status, response.body) == (206, FILM[:100_000])
            assert response.headers["content-range"] == f"bytes 0-99999/{size}"
        assert app.cache is None or app.cache.may_write()


@SIGNINGS
@CACHED
@pytest.mark.parametrize(
    "date",
    [
        *("Wed, 01 Jan 10000 00:00:00 GMT", "Wed, 31 Feb 2025 00:00:00 GMT", "yesterday"),
        *("99999999999999999999", "-1", "1e400", "NaN", "0"),
    ],
)
async def test_an_object_with_odd_dates(
    fake: FakeS3,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    signing: str,
    date: str,
    *,
    cached: bool,
) -> None:
    fake.put("film", OTHER, Last_Modified=date, Expires=date)
    cache = {**kept(tmp_path), "enabled": cached, "min_free_bytes": 0, "ttl_seconds": 0}
    config = config_for(fake, origin={"signing": signing}, cache=cache)
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        for _ in range(2):
            assert (await client.get("/film", method="HEAD")).status == 200
            assert (await client.get("/film")).body == OTHER
            response = await client.get("/film", Range="bytes=5-9", If_Range=fake.etag("film"))
            assert (response.status, response.body) == (206, OTHER[5:10])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
