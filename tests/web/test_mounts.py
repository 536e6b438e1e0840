"""Several buckets, each below a path of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rangeserver.app import METRICS, OBJECTS
from rangeserver.config import Config
from tests.exposition import scrape
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RunningApp, config_for, eventually, running_app


def mounted(
    fake: FakeS3, *mounts: dict[str, Any], admin: bool = False, default: str = ""
) -> Config:
    base = config_for(fake, admin=admin).model_dump(exclude_defaults=True)
    base["origin"]["bucket"] = default
    return Config.model_validate({**base, "mounts": mounts})


MOVIES = {"path": "/movies/", "bucket": "films"}
OLD = {"path": "/movies/old/", "bucket": "films", "prefix": "archive/"}


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/movies/a.mp4", "a.mp4"),
        ("/movies/old/a.mp4", "archive/a.mp4"),
        ("/movies/old/x/a.mp4", "archive/x/a.mp4"),
        ("/movies/older/a.mp4", "older/a.mp4"),
        ("/movies%2Fold/a.mp4", "archive/a.mp4"),
        ("/movies/movies/a.mp4", "movies/a.mp4"),
    ],
)
async def test_the_longest_path_decides(fake: FakeS3, target: str, key: str) -> None:
    fake.put(key, key.encode())
    async with (
        running_app(mounted(fake, MOVIES, OLD)) as app,
        await RawClient.connect(app.port) as client,
    ):
        response = await client.get(target)
    assert (response.status, response.body) == (200, key.encode())
    assert [seen.key for seen in fake.requests] == [key]


@pytest.mark.parametrize(
    "target", ["/a.mp4", "/", "/movies", "/movies/", "/movies/old/", "/film/a"]
)
async def test_outside_of_all_mounts_there_is_nothing(fake: FakeS3, target: str) -> None:
    async with (
        running_app(mounted(fake, MOVIES, OLD)) as app,
        await RawClient.connect(app.port) as client,
    ):
        response = await client.get(target)
    assert response.status == 404
    assert json.loads(response.body)["error"]["code"] == "not_found"
    assert fake.requests == []


async def test_the_bucket_of_origin_has_what_the_mounts_leave(fake: FakeS3) -> None:
    fake.put("a.mp4", b"of the default")
    fake.put("archive/a.mp4", b"of the mount")
    async with (
        running_app(mounted(fake, OLD, default="films")) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/a.mp4")).body == b"of the default"
        assert (await client.get("/movies/old/a.mp4")).body == b"of the mount"


async def test_the_limit_of_a_key_is_that_of_its_bucket(fake: FakeS3) -> None:
    room = 1024 - len("archive/")
    fake.put("archive/" + "k" * room, b"long")
    async with (
        running_app(mounted(fake, OLD)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/movies/old/" + "k" * room)).body == b"long"
        assert (await client.get("/movies/old/" + "k" * (room + 1))).status == 414


async def test_what_is_shown_in_place_is_decided_by_mount(fake: FakeS3) -> None:
    fake.put("page.html", b"<p>", Content_Type="text/html")
    trusted = {**MOVIES, "path": "/trusted/", "access": {"inline_types": ["text/html"]}}
    async with (
        running_app(mounted(fake, MOVIES, trusted)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert "content-disposition" in (await client.get("/movies/page.html")).headers
        assert "content-disposition" not in (await client.get("/trusted/page.html")).headers


def upstream(app: RunningApp, key: str) -> Any:
    found: Any = app.app[OBJECTS].mounts.find(key)
    return found[0].origin.inner.inner.upstream


async def test_mounts_of_one_endpoint_share_its_connections(fake: FakeS3) -> None:
    other = {"path": "/other/", "bucket": "films", "max_connections": 7}
    async with running_app(mounted(fake, MOVIES, OLD, other)) as app:
        assert upstream(app, "movies/a") is upstream(app, "movies/old/a")
        assert upstream(app, "movies/a") is not upstream(app, "other/a")
        assert upstream(app, "other/a").slots.limit == 7


async def test_a_bucket_that_fails_changes_nothing_for_the_others(fake: FakeS3) -> None:
    fake.put("a.mp4", b"bytes")
    broken = {"path": "/broken/", "bucket": "no-such-bucket"}
    async with running_app(mounted(fake, MOVIES, broken, admin=True)) as app:
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/broken/a.mp4")).status == 502
            assert (await client.get("/movies/a.mp4")).body == b"bytes"

        async def readiness() -> tuple[int, Any]:
            async with await RawClient.connect(app.admin_port) as admin:
                response = await admin.get("/readyz")
            return response.status, json.loads(response.body)

        status, told = await readiness()
        while told["mounts"]["/movies/"] is not None or "Bucket" not in told["mounts"]["/broken/"]:
            status, told = await readiness()
        assert status == 200
        assert told["reason"] is None
        async with await RawClient.connect(app.admin_port) as admin:
            page = (await admin.get("/status")).body.decode()
        assert "no-such-bucket" in page
        assert "NoSuchBucket" in page


async def test_with_no_bucket_that_serves_it_is_not_ready(fake: FakeS3) -> None:
    fake.misbehave(faults.error(403, "InvalidAccessKeyId"), method=None)
    async with running_app(mounted(fake, MOVIES, OLD, admin=True)) as app:
        told: Any = {"reason": ""}
        status = 0
        while told["reason"].count("InvalidAccessKeyId") < 2:
            async with await RawClient.connect(app.admin_port) as admin:
                response = await admin.get("/readyz")
            status, told = response.status, json.loads(response.body)
        assert status == 503
        assert told["reason"].startswith("No bucket serves; ")


async def test_figures_of_all_mounts_are_one(fake: FakeS3) -> None:
    fake.put("a.mp4", b"bytes")
    other = {"path": "/other/", "bucket": "films", "max_connections": 7}
    async with running_app(mounted(fake, MOVIES, other)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.get("/movies/a.mp4")
            await client.get("/other/a.mp4")

        def counted() -> bool:
            now = scrape(app.app[METRICS])
            return now("rangeserver_origin_requests_total", outcome="ok") == 2

        await eventually(counted)
