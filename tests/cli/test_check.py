from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.commands import Finished, Way, run
from tests.cli.forked import run_forked
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.tls import tls_files


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"film.mp4": b"0123456789", "empty": b""}


PORTS = ("--port", "0", "--admin-port", "0")


async def check(
    endpoint: str, *arguments: str, way: Way = run_forked, **environ: str | None
) -> Finished:
    return await way(
        *("check", "--bucket", "films", "--endpoint-url", endpoint, *PORTS, *arguments),
        environ={
            "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
            "RANGESERVER_ORIGIN__MAX_ATTEMPTS": "1",
            **environ,
        },
    )


@pytest.mark.parametrize("way", [run, run_forked])
async def test_all_is_well(way: Way, fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, way=way)
    assert finished.code == 0, finished.out
    assert [line.split(":")[0] for line in finished.out.splitlines()] == [
        "ok       config",
        "ok       origin",
        "ok       cache",
        "ok       port",
        "ok       admin port",
        "ok       limits",
    ]


@pytest.mark.parametrize("key", ["film.mp4", "empty"])
async def test_an_object_that_can_be_read(key: str, fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, "--key", key)
    assert finished.code == 0
    assert f"{key!r} can be read" in finished.out


@pytest.mark.parametrize(
    ("status", "code", "found", "advice"),
    [
        (404, "NoSuchBucket", "there is no such bucket", "check origin.bucket"),
        (403, "InvalidAccessKeyId", "the credentials are refused", "environment, profile, role"),
        (403, "SignatureDoesNotMatch", "the credentials are refused", "access key and secret"),
        (400, "ExpiredToken", "the session token has expired", "renew"),
        (403, "RequestTimeTooSkewed", "clock is wrong", "NTP"),
        (400, "AuthorizationHeaderMalformed", "another region", "set origin.region"),
        (503, "SlowDown", "throttling", "later"),
        (500, "InternalError", "answered InternalError", "look this code up"),
    ],
)
async def test_what_the_origin_says_in_plain_words(
    status: int, code: str, found: str, advice: str, fake: FakeS3
) -> None:
    fake.misbehave(faults.error(status, code))
    finished = await check(fake.endpoint_url)
    assert finished.code == 1
    problem, remedy = finished.out.splitlines()[1:3]
    assert problem.startswith("PROBLEM  origin")
    assert found in problem
    assert code in problem
    assert advice in remedy


async def test_access_denied_without_a_key_may_be_well(fake: FakeS3) -> None:
    fake.misbehave(faults.error(403, "AccessDenied"))
    finished = await check(fake.endpoint_url)
    assert finished.code == 0
    assert "try again with --key" in finished.out


async def test_access_denied_with_a_key_is_not(fake: FakeS3) -> None:
    fake.misbehave(faults.error(403, "AccessDenied"))
    finished = await check(fake.endpoint_url, "--key", "film.mp4")
    assert finished.code == 1
    assert "allow s3:GetObject" in finished.out


async def test_no_credentials(fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    assert finished.code == 1
    assert finished.out.count("no credentials found") == 1
    assert finished.err == ""
    assert not fake.requests


async def test_nothing_listens_at_the_endpoint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    finished = await check(f"http://127.0.0.1:{port}")
    assert finished.code == 1
    assert "Connect" in finished.out or "refused" in finished.out
    assert "does it run, and listen on this port?" in finished.out


async def test_a_host_that_is_not_there() -> None:
    finished = await check("http://store.invalid:9000")
    assert finished.code == 1
    assert "the host name is not found" in finished.out


async def test_a_web_server_that_is_no_s3(fake: FakeS3) -> None:
    fake.misbehave(
        lambda answer: replace(answer, status=404, headers=(("Content-Length", "0"),), body=b"")
    )
    finished = await check(fake.endpoint_url)
    assert finished.code == 1
    assert "this does not look like S3" in finished.out


async def test_a_profile_that_is_not_there_hides_nothing_else(fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, RANGESERVER_ORIGIN__PROFILE="nobody")
    assert finished.code == 1
    assert "The config profile (nobody) could not be found" in finished.out
    assert "ok       port" in finished.out


async def test_an_address_of_another_machine(fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, "--host", "192.0.2.1")
    assert finished.code == 1
    assert "set server.host to an address of this machine" in finished.out


async def test_a_region_that_is_none(fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, "--region", "eu_west")
    assert finished.code == 78
    told = "must be a region's name like eu-west-1: letters, digits, hyphens"
    assert finished.err == f"rangeserver: config: origin.region: {told}\n"
    finished = await check(fake.endpoint_url, AWS_REGION="eu_west", AWS_DEFAULT_REGION="eu_west")
    assert finished.code == 1
    assert "origin.region: what AWS_REGION, AWS_DEFAULT_REGION or the profile names" in finished.out
    assert "-> set origin.region\n" in finished.out


async def test_nobody_is_asked_for_a_code(fake: FakeS3, tmp_path: Path) -> None:
    """Of a role that wants one, on a terminal that a server does not have."""
    (tmp_path / "config").write_text("""
        [profile base]
        aws_access_key_id = a
        aws_secret_access_key = b
        [default]
        role_arn = arn:aws:iam::123456789012:role/r
        source_profile = base
        mfa_serial = arn:aws:iam::123456789012:mfa/m
    """)
    finished = await check(
        fake.endpoint_url,
        AWS_CONFIG_FILE=str(tmp_path / "config"),
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
    )
    assert finished.code == 1
    assert "the profile asks for an MFA code, and a server has none" in finished.out
    assert not fake.requests


async def test_a_taken_port(fake: FakeS3) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = await check(fake.endpoint_url, "--port", str(port))
    assert finished.code == 1
    assert f"PROBLEM  port: cannot listen on 127.0.0.1 port {port}" in finished.out


async def test_a_taken_admin_port(fake: FakeS3) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = await check(fake.endpoint_url, "--admin-port", str(port))
    assert finished.code == 1
    assert f"PROBLEM  admin port: cannot listen on 127.0.0.1 port {port}" in finished.out
    assert "set admin.port" in finished.out


async def test_one_port_for_both(fake: FakeS3) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    # By another name of the same address: what the configuration cannot know, the ports tell.
    finished = await check(
        fake.endpoint_url, "--host", "localhost", "--port", port, "--admin-port", port
    )
    assert finished.code == 1
    assert "ok       port" in finished.out
    assert "PROBLEM  admin port" in finished.out


async def test_no_admin_port(fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, RANGESERVER_ADMIN__ENABLED="false")
    assert finished.code == 0
    assert "admin port" not in finished.out


async def test_too_few_descriptors(fake: FakeS3) -> None:
    finished = await check(fake.endpoint_url, RANGESERVER_SERVER__MAX_CONNECTIONS="1000000")
    assert finished.code == 1
    assert "PROBLEM  limits: " in finished.out
    assert "open files (1000000 clients, 1000000 files that are sent to them, " in finished.out
    assert " clients at once fit\n         -> raise LimitNOFILE" in finished.out


@pytest.fixture
async def other() -> AsyncIterator[FakeS3]:
    async with FakeS3(bucket="cuts") as fake:
        fake.put("public/a.mp4", b"0123456789")
        yield fake


def mounts(tmp_path: Path, other: FakeS3, more: str = "") -> tuple[str, str]:
    path = tmp_path / "config.toml"
    path.write_text(f"""
        {more}
        [[mounts]]
        path = "/cuts/"
        bucket = "cuts"
        prefix = "public/"
        endpoint_url = "{other.endpoint_url}"
    """)
    return "--config", str(path)


def keys(fake: FakeS3) -> list[str]:
    return [seen.key for seen in fake.seen("GET")]


async def test_every_mount_has_a_line(fake: FakeS3, other: FakeS3, tmp_path: Path) -> None:
    finished = await check(fake.endpoint_url, *mounts(tmp_path, other))
    assert finished.code == 0, finished.out
    assert [line.split(":")[0] for line in finished.out.splitlines()][:3] == [
        "ok       config",
        "ok       origin",
        "ok       origin /cuts/",
    ]
    assert len(keys(fake)) == len(keys(other)) == 1


@pytest.mark.parametrize("key", ["cuts/a.mp4", "/cuts/a.mp4"])
async def test_a_key_is_looked_up_in_its_mount(
    key: str, fake: FakeS3, other: FakeS3, tmp_path: Path
) -> None:
    finished = await check(fake.endpoint_url, "--key", key, *mounts(tmp_path, other))
    assert finished.code == 0, finished.out
    _, root, mount, *_ = finished.out.splitlines()
    assert root.endswith("answers and may be read")
    assert mount.startswith("ok       origin /cuts/: bucket 'cuts'")
    assert mount.endswith("'a.mp4' can be read")
    assert keys(other) == ["public/a.mp4"]


async def test_a_key_outside_is_looked_up_at_the_root(
    fake: FakeS3, other: FakeS3, tmp_path: Path
) -> None:
    finished = await check(fake.endpoint_url, "--key", "/film.mp4", *mounts(tmp_path, other))
    assert finished.code == 0, finished.out
    _, root, mount, *_ = finished.out.splitlines()
    assert root.endswith("'film.mp4' can be read")
    assert mount.endswith("answers and may be read")
    assert keys(fake) == ["film.mp4"]


async def test_the_advice_names_the_setting_of_the_mount(
    fake: FakeS3, other: FakeS3, tmp_path: Path
) -> None:
    other.misbehave(faults.error(404, "NoSuchBucket"))
    finished = await check(fake.endpoint_url, *mounts(tmp_path, other))
    assert finished.code == 1
    assert "PROBLEM  origin /cuts/: bucket 'cuts'" in finished.out
    assert "check mounts[0].bucket and, for other stores, origin.endpoint_url" in finished.out
    assert "ok       origin: " in finished.out


@pytest.mark.parametrize("key", ["film.mp4", "/cuts/", ""])
async def test_a_key_that_no_mount_has(key: str, other: FakeS3, tmp_path: Path) -> None:
    arguments = ("--key", key, *PORTS, *mounts(tmp_path, other))
    finished = await run_forked(
        "check", *arguments, environ={"RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path"}
    )
    assert finished.code == 1
    assert f"PROBLEM  key: {key!r} names no object of a mount" in finished.out
    assert "-> name an object below one of /cuts/" in finished.out
    assert "ok       origin /cuts/" in finished.out


async def test_descriptors_for_the_connections_of_every_client(
    fake: FakeS3, other: FakeS3, tmp_path: Path
) -> None:
    limits = "[server]\nmax_connections = 100\n[origin]\nmax_connections = 20\n"
    arguments = mounts(tmp_path, other, limits)
    finished = await check(fake.endpoint_url, *arguments)
    assert "ok       limits: " in finished.out
    assert "(100 clients, 100 files that are sent to them, " in finished.out
    assert ", 40 connections to the origin, " in finished.out


async def test_what_the_bucket_wants_goes_with_the_question(fake: FakeS3, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k" * 32)
    finished = await check(
        fake.endpoint_url,
        RANGESERVER_ORIGIN__SSE_CUSTOMER_KEY_FILE=str(path),
        RANGESERVER_ORIGIN__REQUEST_PAYER="true",
        RANGESERVER_ORIGIN__EXPECTED_BUCKET_OWNER="123456789012",
    )
    assert finished.code == 0, finished.out
    (seen,) = fake.requests
    assert seen.headers["x-amz-server-side-encryption-customer-algorithm"] == "AES256"
    assert seen.headers["x-amz-request-payer"] == "requester"
    assert seen.headers["x-amz-expected-bucket-owner"] == "123456789012"


async def test_an_object_that_wants_a_key(fake: FakeS3) -> None:
    fake.misbehave(faults.error(400, "InvalidRequest"))
    finished = await check(fake.endpoint_url, "--key", "film.mp4")
    assert finished.code == 1
    assert "check origin.sse_customer_key_file" in finished.out


async def test_a_port_that_speaks_tls(fake: FakeS3, tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    flags = ("--tls-certificate", files["tls_certificate"], "--tls-key", files["tls_key"])
    finished = await check(fake.endpoint_url, *flags)
    assert finished.code == 0, finished.out
    lines = finished.out.splitlines()
    assert "ok       tls: certificate and key can be used" in lines
    assert lines[-3].startswith("ok       port: https://127.0.0.1:")
    assert lines[-2].startswith("ok       admin port: http://127.0.0.1:")


async def test_a_certificate_that_cannot_be_used(fake: FakeS3, tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    flags = ("--tls-certificate", files["tls_certificate"], "--tls-key", str(tmp_path / "hunter2"))
    finished = await check(fake.endpoint_url, *flags)
    assert finished.code == 1
    assert (
        "PROBLEM  tls: server.tls_key: the file cannot be read: No such file or directory"
    ) in finished.out
    assert "hunter2" not in finished.out
