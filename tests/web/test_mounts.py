"""Several buckets behind one server: each path leads to its own, and no further."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

import pytest

from rangeserver.app import OBJECTS, WATCHED
from rangeserver.cache.metadata import MetadataCache
from rangeserver.config import Config, MountConfig
from rangeserver.origin import health
from rangeserver.origin.circuit import FAILURES_IN_A_ROW
from rangeserver.origin.resuming import ResumingOrigin
from rangeserver.origin.s3 import S3Origin
from rangeserver.origin.upstream import Upstream
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RawResponse, RunningApp, config_for, eventually, running_app
from tests.web.status_rows import rows


@pytest.fixture
async def other() -> AsyncIterator[FakeS3]:
    """A second store, with a bucket of its own."""
    async with FakeS3(bucket="cuts") as origin:
        yield origin


def with_mounts(config: Config, *mounts: Mapping[str, object]) -> Config:
    read = tuple(MountConfig.model_validate(mount) for mount in mounts)
    return config.model_copy(update={"mounts": read})


def three(fake: FakeS3, other: FakeS3, *, admin: bool = False) -> Config:
    """``films`` at the top and deep inside, ``cuts`` of another store in between."""
    return with_mounts(
        config_for(fake, admin=admin),
        {
            "path": "/x/",
            "bucket": "cuts",
            "prefix": "public/",
            "endpoint_url": other.endpoint_url,
            "access": {"inline_types": ["text/html"]},
        },
        {"path": "/x/y z/", "bucket": "films", "prefix": "deep/"},
    )


def upstream_at(app: RunningApp, key: str) -> Upstream:
    found = app.app[OBJECTS].targets.mounts.find(key)
    assert found is not None
    known = found[0].origin
    assert isinstance(known, MetadataCache)
    assert isinstance(known.inner, ResumingOrigin)
    assert isinstance(known.inner.inner, S3Origin)
    return known.inner.inner.upstream


@pytest.mark.parametrize(
    ("target", "at_other", "key"),
    [
        ("/a.mp4", False, "a.mp4"),
        ("/x", False, "x"),
        ("/xa/b.mp4", False, "xa/b.mp4"),
        ("/x/a.mp4", True, "public/a.mp4"),
        ("/%78%2Fa.mp4", True, "public/a.mp4"),
        ("/x/x/a.mp4", True, "public/x/a.mp4"),
        ("/x//a.mp4", True, "public//a.mp4"),
        ("/x/y%20z", True, "public/y z"),
        ("/x/y%20z/a.mp4", False, "deep/a.mp4"),
        ("/x/y%20z/x/a.mp4", False, "deep/x/a.mp4"),
    ],
)
@pytest.mark.parametrize("signing", ["per-object", "per-request"])
async def test_the_longest_path_names_the_bucket(
    fake: FakeS3, other: FakeS3, target: str, at_other: bool, key: str, signing: str
) -> None:
    asked, spared = (other, fake) if at_other else (fake, other)
    asked.put(key, b"0123456789")
    spared.put(key, b"wrong")
    config = three(fake, other)
    config = config.model_copy(
        update={"origin": config.origin.model_copy(update={"signing": signing})}
    )
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        response = await client.get(target, Range="bytes=2-4")
        assert (response.status, response.body) == (206, b"234")
        head = await client.get(target, method="HEAD")
        assert (head.status, head.headers["content-length"]) == (200, "10")
    assert [(seen.method, seen.key) for seen in asked.requests] == [("GET", key), ("HEAD", key)]
    assert spared.requests == []


@pytest.mark.parametrize("target", ["/", "/a.mp4", "/x", "/x/", "/X/a.mp4", "/y/x/a.mp4"])
async def test_where_nothing_is_mounted_nothing_is_asked(
    fake: FakeS3, other: FakeS3, target: str
) -> None:
    fake.put("a.mp4", b"0123456789")
    config = three(fake, other)
    config = config.model_copy(update={"origin": config.origin.model_copy(update={"bucket": ""})})
    async with running_app(config) as app, await RawClient.connect(app.port) as client:
        for method in ("GET", "HEAD"):
            response = await client.get(target, method=method)
            assert response.status == 404
        response = await client.get(target)
        assert json.loads(response.body)["error"]["code"] == "not_found"
    assert fake.requests == other.requests == []


@pytest.mark.fault("F11")
async def test_a_mount_decides_itself_what_is_shown_in_place(fake: FakeS3, other: FakeS3) -> None:
    for origin, key in ((fake, "a.html"), (other, "public/a.html"), (fake, "deep/a.html")):
        origin.put(key, b"<p>", Content_Type="text/html")
    other.put("public/a.mp4", b"0123", Content_Type="video/mp4")

    def in_place(response: RawResponse) -> bool:
        assert response.status == 200
        sandboxed = "content-security-policy" in response.headers
        assert sandboxed is response.headers.get("content-disposition", "").startswith("attachment")
        return not sandboxed

    async with (
        running_app(three(fake, other)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert not in_place(await client.get("/a.html"))
        assert in_place(await client.get("/x/a.html"))
        assert not in_place(await client.get("/x/a.mp4"))  # its list replaces the other
        assert not in_place(await client.get("/x/y%20z/a.html"))


@pytest.mark.parametrize(
    ("path", "prefix", "at_other"), [("/", "", False), ("/x/", "public/", True)]
)
async def test_the_limit_of_a_key_counts_the_prefix_and_not_the_path(
    fake: FakeS3, other: FakeS3, path: str, prefix: str, at_other: bool
) -> None:
    longest = "k" * (1024 - len(prefix))
    asked = other if at_other else fake
    asked.put(prefix + longest, b"0123456789")
    async with (
        running_app(three(fake, other)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get(path + longest)).body == b"0123456789"
        refused = await client.get(path + longest + "k")
        assert refused.status == 414
        assert json.loads(refused.body)["error"]["code"] == "key_too_long"
    assert len(asked.requests) == 1


async def test_equal_endpoints_share_their_connections(fake: FakeS3, other: FakeS3) -> None:
    for key in ("a.mp4", "deep/a.mp4"):
        fake.put(key, b"0123456789")
    other.put("public/a.mp4", b"0123456789")
    async with (
        running_app(three(fake, other)) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert upstream_at(app, "a") is upstream_at(app, "x/y z/a")
        assert upstream_at(app, "a") is not upstream_at(app, "x/a")
        for target in ("/a.mp4", "/x/y%20z/a.mp4", "/x/a.mp4") * 3:
            assert (await client.get(target)).body == b"0123456789"
        assert (fake.open_connections, other.open_connections) == (1, 1)


async def test_what_differs_beyond_bucket_and_prefix_has_its_own(fake: FakeS3) -> None:
    config = with_mounts(
        config_for(fake),
        {"path": "/same/", "bucket": "b", "forbidden_as_not_found": True},
        {"path": "/region/", "bucket": "b", "region": "eu-west-1"},
        {"path": "/anonymous/", "bucket": "b", "anonymous": True},
        {"path": "/few/", "bucket": "b", "max_connections": 1},
    )
    async with running_app(config) as app:
        names = ("a", "same/a", "region/a", "anonymous/a", "few/a")
        found = [upstream_at(app, name) for name in names]
        assert found[0] is found[1]
        assert len({id(each) for each in found}) == 4


async def test_an_origin_that_is_down_is_so_for_its_mounts_alone(
    fake: FakeS3, other: FakeS3
) -> None:
    fake.put("a.mp4", b"0123456789")
    await other.refuse()
    async with (
        running_app(three(fake, other)) as app,
        await RawClient.connect(app.port) as client,
    ):
        codes = []
        for number in range(FAILURES_IN_A_ROW + 1):
            response = await client.get(f"/x/{number}.mp4")
            codes.append(json.loads(response.body)["error"]["code"])
            assert (await client.get("/a.mp4")).body == b"0123456789"
        assert codes == ["origin_unreachable"] * FAILURES_IN_A_ROW + ["origin_suspended"]


# --- what the admin listener says of them


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_PAUSE_SECONDS", 0.01)


async def ask_admin(app: RunningApp, target: str) -> RawResponse:
    async with await RawClient.connect(app.admin_port) as client:
        return await client.get(target)


def ready_paths(app: RunningApp) -> set[str]:
    return {each.path for each in app.app[WATCHED].origins if each.health.ready}


@pytest.mark.usefixtures("impatient")
async def test_one_bucket_that_serves_is_enough_to_be_ready(fake: FakeS3, other: FakeS3) -> None:
    refused = faults.error(403, "InvalidAccessKeyId")
    other.misbehave(refused, method=None)
    async with running_app(three(fake, other, admin=True)) as app:
        await eventually(lambda: ready_paths(app) == {"/", "/x/y z/"})
        await eventually(lambda: "refuses" in (app.app[WATCHED].origins[1].health.reason or ""))
        answer = await ask_admin(app, "/readyz")
        said = json.loads(answer.body)
        assert (answer.status, said["ready"], said["reason"]) == (200, True, None)
        assert set(said["mounts"]) == {"/", "/x/", "/x/y z/"}
        assert said["mounts"]["/"] is None
        assert "InvalidAccessKeyId" in said["mounts"]["/x/"]

        page = (await ask_admin(app, "/status")).body.decode()
        shown = {row["path"]: (row["bucket"], row["state"]) for row in rows(page)}
        assert shown["/"] == shown["/x/y z/"] == ("films", "serves")
        assert shown["/x/"][0] == "cuts"
        assert shown["/x/"][1].startswith("The origin refuses")
        assert '<p class="state good">ready</p>' in page

        fake.misbehave(refused, method=None)
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/a.mp4")).status == 502
            assert (await client.get("/x/y%20z/a.mp4")).status == 502
        await eventually(lambda: ready_paths(app) == set())
        answer = await ask_admin(app, "/readyz")
        said = json.loads(answer.body)
        assert answer.status == 503
        assert said["reason"].startswith("No bucket serves; ")
        assert all(f"{path}: The origin refuses" in said["reason"] for path in said["mounts"])
        page = (await ask_admin(app, "/status")).body.decode()
        assert '<p class="state bad">not ready: No bucket serves;' in page

        other.behave()
        await eventually(lambda: ready_paths(app) == {"/x/"})
        assert (await ask_admin(app, "/readyz")).status == 200


@pytest.mark.usefixtures("impatient")
async def test_one_bucket_alone_is_not_listed(fake: FakeS3) -> None:
    async with running_app(config_for(fake, admin=True)) as app:
        await eventually(lambda: ready_paths(app) == {"/"})
        assert json.loads((await ask_admin(app, "/readyz")).body) == {"ready": True, "reason": None}
        assert "<dt>Bucket</dt><dd>films</dd>" in (await ask_admin(app, "/status")).body.decode()
