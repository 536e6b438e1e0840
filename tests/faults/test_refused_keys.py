"""Keys that a store refuses, by name or for what is behind them, while it serves others: no client
can make a failure of the origin of them. And stores that refuse the server in the same words.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from rangeserver.origin import health
from tests.fakes import faults
from tests.fakes.faults import Answer, Fault
from tests.fakes.s3 import FakeS3
from tests.faults.invariants import Watch, watched
from tests.faults.repeating import refused
from tests.faults.test_credentials import not_ready, readiness, ready
from tests.support import DEADLINE_SECONDS

FILM = random.Random(1).randbytes(300_000)
CACHES: list[dict[str, Any] | None] = [None, {"block_bytes": 64 << 10, "ttl_seconds": 0}]
DOUBLE = "a//b"
PLAIN = "odd name"


def without_a_code(status: int, location: str | None = None) -> Fault:
    """The answer of a proxy or a file server, of which S3 knows nothing."""

    def fault(_: Answer) -> Answer:
        body = b"<html>no</html>"
        answer = Answer(status, (("Content-Length", str(len(body))),), body)
        return answer.with_header("Location", location)

    return fault


BY_NAME: dict[str, tuple[str, Fault]] = {
    "rclone, RustFS": (DOUBLE, faults.error(400, "InvalidArgument")),
    "MinIO": (DOUBLE, faults.error(400, "XMinioInvalidObjectName")),
    "MinIO, leading slash": ("/a", faults.error(400, "XMinioUnknownAPIRequest")),
    "Ceph, OSS": (PLAIN, faults.error(400, "InvalidObjectName")),
    "AWS, too long": (PLAIN, faults.error(400, "KeyTooLongError")),
    "AWS, not read": (PLAIN, faults.error(400, "InvalidURI")),
    "a proxy that cuts slashes": (DOUBLE, faults.error(403, "SignatureDoesNotMatch")),
    "a router that cuts slashes": (DOUBLE, without_a_code(301, "/films/a/b")),
    "a newer one": (DOUBLE, without_a_code(307, "/films/a/b")),
    "400 alone": (PLAIN, without_a_code(400)),
    "414 alone": (PLAIN, without_a_code(414)),
    "a directory": (PLAIN, faults.error(405, "MethodNotAllowed")),
    "a mark of deletion": (
        PLAIN,
        faults.all_of(
            faults.error(405, "MethodNotAllowed"), faults.header("x-amz-delete-marker", "true")
        ),
    ),
    "410": (PLAIN, faults.error(410, "Gone")),
}
OF_THE_OBJECT: dict[str, tuple[str, Fault]] = {
    "encrypted with a key of somebody": (PLAIN, faults.error(400, "InvalidRequest")),
    "legal reasons": (PLAIN, without_a_code(451)),
}


@pytest.mark.fault("A31")
@pytest.mark.parametrize("cache", CACHES, ids=["past", "cached"])
@pytest.mark.parametrize("signing", ["per-object", "per-request"])
async def test_one_key_is_refused(fake: FakeS3, signing: str, cache: dict[str, Any] | None) -> None:
    """A crawler that asks for it over and over raises no alarm."""
    async with watched(fake, origin={"signing": signing}, cache=cache, admin=True) as watch:
        await ready(watch.app.admin_port)
        for name, (key, fault) in {**BY_NAME, **OF_THE_OBJECT}.items():
            status, code = (404, "not_found") if name in BY_NAME else (403, "access_denied")
            fake.misbehave(fault, key=key, method=None)
            target = "/" + key.replace(" ", "%20")
            for method in ("HEAD", "GET", "HEAD"):
                received = await watch.get(target, method=method, goes_on=False)
                assert received.status == status, name
                assert method == "HEAD" or received.error_code == code
            ranged = await watch.get(target, Range="bytes=0-9")
            assert ranged.status == status, name
            fake.behave()
        assert (await readiness(watch.app.admin_port)).status == 200
        await watch.counts(0, "rangeserver_origin_retries_total")
        watch.again(refused(404, "not_found"), lambda _: faults.error(400, "InvalidObjectName"))


async def test_many_refusals_cost_one_comparison(fake: FakeS3) -> None:
    async with watched(fake) as watch:
        watch.put("film", FILM)
        fake.misbehave(faults.error(400, "InvalidArgument"), key=DOUBLE, method=None)
        for _ in range(10):
            assert (await watch.get(f"/{DOUBLE}", goes_on=False)).status == 404
        asked = [each for each in fake.requests if each.key == DOUBLE]
        others = [each for each in fake.requests if each.key not in {DOUBLE, "film"}]
        assert len(asked) == 10
        assert 1 <= len(others) <= 5  # one in two seconds
        fake.behave()
        watch.again(served_film)


async def served_film(watch: Watch, _: str) -> None:
    assert (await watch.get("/film", goes_on=False)).body == FILM


@pytest.mark.parametrize("cache", CACHES, ids=["past", "cached"])
@pytest.mark.parametrize(
    "fault",
    [
        faults.error(400, "InvalidArgument"),
        faults.error(403, "SignatureDoesNotMatch"),
        without_a_code(400),
        without_a_code(301, "/elsewhere"),
        faults.error(405, "MethodNotAllowed"),
    ],
    ids=["argument", "signature", "400", "301", "405"],
)
async def test_the_server_is_refused(
    fake: FakeS3, fault: Fault, cache: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same words, but for every key. Nothing that is kept is thrown away for it."""
    monkeypatch.setattr(health, "PROBE_PAUSE_SECONDS", 0.02)
    async with watched(fake, cache=cache, admin=True) as watch:
        await ready(watch.app.admin_port)
        watch.put("film", FILM)
        await served_film(watch, "")
        fake.misbehave(fault, method=None)
        for target in ("/film", f"/{DOUBLE}", "/odd%20name"):
            for method in ("GET", "HEAD"):
                received = await watch.get(target, method=method, goes_on=False)
                assert received.status == 502
        assert "refuses" in await not_ready(watch.app.admin_port, DEADLINE_SECONDS)
        fake.behave()
        await ready(watch.app.admin_port)
        fetched = fake.sent["film"]
        await served_film(watch, "")
        assert (fake.sent["film"] == fetched) is (cache is not None)
        watch.again(served_film)
