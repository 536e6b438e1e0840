"""What an endpoint speaks and who it says it is: told apart by ``check``, and in the same words by
the readiness of a server and its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rangeserver.origin import health
from tests.cli.test_check import check
from tests.fakes.s3 import FakeS3
from tests.support import RawClient, config_for, eventually, running_app
from tests.tls import tls_files


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_PAUSE_SECONDS", 0.01)


@asynccontextmanager
async def over_tls(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool = True, **certificate: Any
) -> AsyncIterator[FakeS3]:
    """A store over TLS, by a certificate that is trusted for its authority."""
    files = tls_files(directory, **certificate)
    if trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", files["tls_certificate"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["tls_certificate"], files["tls_key"])
    async with FakeS3(tls=context) as fake:
        yield fake


async def test_an_authority_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with over_tls(tmp_path, monkeypatch) as fake:
        fake.put("film", b"0123456789")
        assert (await check(fake.endpoint_url, "--key", "film")).code == 0
        for signing in ("per-object", "per-request"):
            config = config_for(fake, origin={"signing": signing})
            async with running_app(config) as app, await RawClient.connect(app.port) as client:
                assert (await client.get("/film")).body == b"0123456789"


async def test_an_authority_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with over_tls(tmp_path, monkeypatch, trusted=False) as fake:
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {tmp_path}/certificate.pem\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        finished = await check(fake.endpoint_url)
        assert finished.code == 0, finished.out


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "No such file or directory"), ("junk", "holds no certificate")]
)
async def test_a_file_that_names_no_authority(
    fake: FakeS3, tmp_path: Path, text: str | None, reason: str
) -> None:
    path = tmp_path / "authority.pem"
    if text is not None:
        path.write_text(text)
    finished = await check(fake.endpoint_url, AWS_CA_BUNDLE=str(path))
    assert finished.code == 1
    assert f"AWS_CA_BUNDLE, or ca_bundle of the profile: {path}: {reason}" in finished.out


Endpoint = Callable[[Path, pytest.MonkeyPatch], AbstractAsyncContextManager[str]]


def of_tls(scheme: str = "https", **certificate: Any) -> Endpoint:
    @asynccontextmanager
    async def endpoint(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
        async with over_tls(directory, monkeypatch, **certificate) as fake:
            yield fake.endpoint_url.replace("https", scheme)

    return endpoint


def of_plain_http(scheme: str) -> Endpoint:
    return of_one_who_says(scheme, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def of_something_else(scheme: str) -> Endpoint:
    return of_one_who_says(scheme, b"SSH-2.0-OpenSSH_9.2\r\n")


def of_one_who_says(scheme: str, words: bytes) -> Endpoint:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        with contextlib.suppress(ConnectionError):
            await reader.read(100)
        writer.close()

    @asynccontextmanager
    async def endpoint(_: Path, __: pytest.MonkeyPatch) -> AsyncIterator[str]:
        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    return endpoint


@pytest.mark.parametrize(
    ("endpoint", "found", "advice"),
    [
        (
            of_tls(trusted=False),
            "its TLS certificate is from an authority that this machine does not know",
            "AWS_CA_BUNDLE",
        ),
        (
            of_tls(address="10.0.0.1"),
            "its TLS certificate is for another host (IP address mismatch",
            "write the name that the certificate is for in origin.endpoint_url",
        ),
        (of_tls(days=(-3, -1)), "its TLS certificate has expired", "renewed"),
        (of_tls(days=(1, 3)), "its TLS certificate is not valid yet", "set the clock"),
        (
            of_tls("http"),
            "this port speaks TLS, and origin.endpoint_url says http",
            "write https in origin.endpoint_url",
        ),
        (
            of_plain_http("https"),
            "this port speaks plain HTTP, and origin.endpoint_url says https",
            "write http in origin.endpoint_url",
        ),
        (
            of_something_else("https"),
            "what listens there speaks neither TLS nor HTTP",
            "check origin.endpoint_url",
        ),
        (
            of_something_else("http"),
            "what listens there does not speak HTTP",
            "check origin.endpoint_url",
        ),
    ],
)
async def test_it_is_told_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    endpoint: Endpoint,
    found: str,
    advice: str,
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of the fakes: no handshake
    caplog.set_level(logging.WARNING)
    async with endpoint(tmp_path, monkeypatch) as url:
        finished = await check(url, RANGESERVER_ORIGIN__CONNECT_SECONDS="30")
        assert finished.code == 1
        problem, remedy = finished.out.splitlines()[1:3]
        assert problem.startswith(f"PROBLEM  origin: bucket 'films' at {url}: {found}")
        assert advice in remedy
        async with FakeS3() as fake:
            config = config_for(
                fake, origin={"endpoint_url": url, "connect_seconds": 30.0}, admin=True
            )
        async with running_app(config) as app:
            await eventually(lambda: "not ready: " in caplog.text)
            async with await RawClient.connect(app.admin_port) as client:
                reason = json.loads((await client.get("/readyz")).body)["reason"]
        assert found in reason
        assert advice in reason
        assert reason in caplog.text
