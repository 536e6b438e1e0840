"""The admin listener as its readers see it."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from urllib.parse import quote

import pytest

from rangeserver.app import METRICS, WATCHED
from rangeserver.origin import health
from rangeserver.origin.health import OriginHealth
from rangeserver.process import lag
from tests.exposition import parsed, scrape
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, RawResponse, RunningApp, config_for, eventually, running_app
from tests.web.status_rows import rows

HOSTILE = '<script>alert("x")</script>&\u00e9.mp4'


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_PAUSE_SECONDS", 0.01)


async def ask(app: RunningApp, target: str, **headers: str) -> RawResponse:
    async with await RawClient.connect(app.admin_port) as client:
        return await client.get(target, **headers)


async def readiness(app: RunningApp) -> tuple[int, str | None]:
    response = await ask(app, "/readyz")
    fields = json.loads(response.body)
    assert fields["ready"] is (response.status == 200)
    return response.status, fields["reason"]


def health_of(app: RunningApp) -> OriginHealth:
    (origin,) = app.app[WATCHED].origins
    return origin.health


def is_ready(app: RunningApp) -> bool:
    return health_of(app).ready


async def test_ready_once_the_origin_has_answered(fake: FakeS3) -> None:
    fake.misbehave(faults.stall_after(faults.BEFORE_HEADER), method=None)
    async with running_app(config_for(fake, admin=True)) as app:
        assert await readiness(app) == (503, "The origin has not answered yet.")
        await eventually(lambda: fake.stalled == 1)
        fake.behave()
        fake.release()
        await eventually(lambda: is_ready(app))
        assert await readiness(app) == (200, None)


async def test_readiness_follows_the_origin_and_liveness_does_not(
    fake: FakeS3, caplog: pytest.LogCaptureFixture
) -> None:
    fake.put("a.mp4", b"0123456789")
    async with running_app(config_for(fake, admin=True)) as app:
        await eventually(lambda: is_ready(app))
        fake.misbehave(faults.error(403, "InvalidAccessKeyId"), method=None)
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/a.mp4")).status == 502
        await eventually(lambda: not is_ready(app))
        status, reason = await readiness(app)
        assert status == 503
        assert reason is not None
        assert "InvalidAccessKeyId" in reason
        assert (await ask(app, "/healthz")).status == 200
        fake.behave()
        await eventually(lambda: is_ready(app))
        assert (await readiness(app))[0] == 200
    assert "not ready: The origin refuses" in caplog.text


async def test_ready_again_without_a_single_client(fake: FakeS3) -> None:
    """A server that is not ready gets no clients: its own probes have to find out."""
    fake.put("a.mp4", b"0123456789")
    async with running_app(config_for(fake, admin=True)) as app:
        async with await RawClient.connect(app.port) as client:
            assert (await client.get("/a.mp4")).status == 200
        await fake.refuse()
        async with await RawClient.connect(app.port) as client:
            for _ in range(health.FAILURES_IN_A_ROW):
                assert (await client.get("/a.mp4")).status == 502
        await eventually(lambda: not is_ready(app))
        await fake.listen()
        await eventually(lambda: is_ready(app))


async def test_an_origin_that_is_not_there(fake: FakeS3) -> None:
    config = config_for(fake, origin={"endpoint_url": "http://127.0.0.1:9"}, admin=True)
    async with running_app(config) as app:
        await eventually(lambda: "cannot be reached" in (health_of(app).reason or ""))
        assert (await readiness(app))[0] == 503
        assert (await ask(app, "/healthz")).status == 200


async def test_a_ready_server_asks_the_origin_nothing(fake: FakeS3) -> None:
    async with running_app(config_for(fake, admin=True)) as app:
        await eventually(lambda: is_ready(app))
        asked = len(fake.requests)
        for target in ("/readyz", "/healthz", "/metrics", "/status"):
            await ask(app, target)
        assert len(fake.requests) == asked


async def test_metrics_are_text_that_prometheus_parses(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag, "INTERVAL_SECONDS", 0.01)
    fake.put("a.mp4", b"0123456789")
    async with running_app(config_for(fake, admin=True)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.get("/a.mp4")
        lagged = "rangeserver_event_loop_lag_seconds_count"
        await eventually(lambda: scrape(app.app[METRICS])(lagged) > 0)
        response = await ask(app, "/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        now = parsed(response.body.decode())
        name = "rangeserver_responses_total"
        assert now(name, method="GET", status="200", outcome="complete") == 1
        other = await ask(app, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert other.headers["content-type"].startswith("application/openmetrics-text")


async def test_the_status_page_shows_streams_and_escapes_what_clients_chose(fake: FakeS3) -> None:
    body = bytes(100_000)
    fake.put(HOSTILE, body)
    fake.misbehave(faults.stall_after(40_000), times=1, key=HOSTILE)
    async with running_app(config_for(fake, admin=True)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.ask("/" + quote(HOSTILE))
            await eventually(lambda: fake.stalled == 1)
            await eventually(lambda: any(each.bytes_sent for each in app.active))
            page = await ask(app, "/status")
        text = page.body.decode()
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"
        assert "<script>alert" not in text
        (row,) = rows(text)
        assert (row["key"], row["client"]) == (HOSTILE, "127.0.0.1")
        assert row["sent"] == "39.1 KiB of 97.7 KiB"
        assert "Running now: 1" in text


async def test_the_status_page_shows_the_cache(fake: FakeS3, tmp_path: Path) -> None:
    fake.put("a.mp4", b"0123456789")
    directory = tmp_path / "cache"
    cache = {"enabled": True, "directory": str(directory), "min_free_bytes": 0}
    async with running_app(config_for(fake, admin=True, cache=cache)) as app:
        page = (await ask(app, "/status")).body.decode()
        assert "of 10.0&nbsp;GiB" in page
        assert app.cache is not None
        app.cache.write_failed(OSError(errno.EIO, "no"))
        assert "cannot be written to" in (await ask(app, "/status")).body.decode()
    async with running_app(config_for(fake, admin=True)) as app:
        assert "<dt>Cache</dt><dd>off</dd>" in (await ask(app, "/status")).body.decode()


async def test_the_status_page_shows_the_last_failures(fake: FakeS3) -> None:
    fake.put(HOSTILE, bytes(100_000))
    fake.misbehave(faults.error(503, "SlowDown"), key=HOSTILE)
    async with running_app(config_for(fake, admin=True)) as app:
        async with await RawClient.connect(app.port) as client:
            await client.get("/missing", X_Request_Id="nobodys-fault")
            await client.get("/" + quote(HOSTILE), X_Request_Id="request-1234")
        text = (await ask(app, "/status")).body.decode()
    (row,) = rows(text)
    assert (row["status"], row["outcome"], row["request id"]) == ("503", "complete", "request-1234")
    assert "<script>alert" not in text


async def test_the_public_port_shows_none_of_it(fake: FakeS3) -> None:
    async with (
        running_app(config_for(fake, admin=True)) as app,
        await RawClient.connect(app.port) as client,
    ):
        for target in ("/metrics", "/healthz", "/readyz", "/status"):
            assert (await client.get(target)).status == 404


async def test_the_bare_address_leads_to_the_status_page(fake: FakeS3) -> None:
    async with running_app(config_for(fake, admin=True)) as app:
        response = await ask(app, "/")
        assert (response.status, response.headers["location"]) == (302, "/status")


def error_of(response: RawResponse) -> tuple[int, str]:
    """An error by the error contract: its status and code."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    error = json.loads(response.body)["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    return response.status, error["code"]


async def test_what_is_not_there_and_not_allowed(
    fake: FakeS3, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running_app(config_for(fake, admin=True)) as app:
        caplog.clear()
        assert error_of(await ask(app, "/nothing")) == (404, "not_found")
        async with await RawClient.connect(app.admin_port) as client:
            response = await client.get("/metrics", method="POST")
            assert error_of(response) == (405, "method_not_allowed")
            assert response.headers["allow"] == "GET, HEAD, OPTIONS"
            response = await client.get("/metrics", method="OPTIONS")
            assert (response.status, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
            response = await client.get("/metrics", method="HEAD")
            assert (response.status, response.body) == (200, b"")
        assert not caplog.messages


@pytest.mark.fault("F9")
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nno field\r\n\r\n", "bad_request"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", "request_too_long"),
        (b"\x16\x03\x01\x00\xf1\x01\x00\x00\xed\x03\x03" + bytes(200), "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "bad_request"),
    ],
    ids=["field", "target", "long", "tls", "host"],
)
async def test_a_bad_request_is_told_as_on_the_public_port_and_floods_no_log(
    fake: FakeS3, caplog: pytest.LogCaptureFixture, request_: bytes, code: str
) -> None:
    caplog.set_level(logging.INFO)
    async with running_app(config_for(fake, admin=True)) as app:
        caplog.clear()
        async with await RawClient.connect(app.admin_port) as client:
            await client.send(request_)
            assert error_of(await client.response()) == (400, code)
        assert not caplog.messages


@pytest.mark.fault("F12")
@pytest.mark.parametrize("target", ["/status", "/metrics", "/readyz", "/", "/nothing"])
async def test_a_strangers_host_name_is_told_nothing(fake: FakeS3, target: str) -> None:
    """A page of evil.example whose name was made to resolve to this address (DNS rebinding)."""
    async with running_app(config_for(fake, admin=True)) as app:
        response = await ask(app, target, Host="evil.example:9090")
        assert error_of(response) == (421, "not_this_host")
        assert (await ask(app, target, Host="127.0.0.1:9090")).status != 421
        assert (await ask(app, "/healthz", Host="evil.example:9090")).status == 200


async def test_scrapers_and_probes_come_by_name_or_without(fake: FakeS3) -> None:
    config = config_for(fake, admin=True)
    named = config.admin.model_copy(update={"names": ("metrics.example.com",)})
    async with running_app(config.model_copy(update={"admin": named})) as app:
        hosts = ["rangeserver:9090", "rangeserver.media.svc.cluster.local:9090", "[::1]:9090"]
        for host in (*hosts, "metrics.example.com"):
            assert (await ask(app, "/metrics", Host=host)).status == 200, host
        async with await RawClient.connect(app.admin_port) as client:
            await client.send(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert (await client.response()).status == 200
