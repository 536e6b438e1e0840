from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.commands import Served, run, served, start
from tests.cli.forked import run_forked
from tests.exposition import parsed
from tests.fakes import faults
from tests.fakes.s3 import FakeS3
from tests.support import DEADLINE_SECONDS, RawClient, eventually
from tests.tls import TlsClient, tls_files, trusting

FILM = bytes(range(256)) * 16384  # 4 MiB


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"film.mp4": FILM}


def against(fake: FakeS3) -> tuple[str, ...]:
    return ("--bucket", fake.bucket, "--endpoint-url", fake.endpoint_url)


PATH_STYLE = {"RANGESERVER_CACHE__ENABLED": "false", "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path"}


async def half_a_film(server: Served, fake: FakeS3) -> RawClient:
    """A client in the middle of a film whose origin has stopped sending."""
    fake.misbehave(faults.stall_after(len(FILM) // 2))
    client = await RawClient.connect(server.port)
    await client.ask("/film.mp4")
    status, _ = await client.head()
    assert status == 200
    await eventually(lambda: fake.stalled == 1)
    return client


async def test_serves_logs_and_ends_cleanly(fake: FakeS3) -> None:
    async with served(*against(fake), environ=PATH_STYLE) as server:
        async with await RawClient.connect(server.port) as client:
            response = await client.get("/film.mp4", Range="bytes=5-9")
            assert (response.status, response.body) == (206, FILM[5:10])
            line = await server.line()
            assert line["log"] == "access"
            assert line["request_id"] == response.headers["x-request-id"]
            assert line["outcome"] == "complete"
            server.process.send_signal(signal.SIGTERM)
            assert await client.rest() == b""  # an idle connection is closed at once
        assert await server.ended() == 0


@pytest.mark.fault("C12")
async def test_lines_that_cannot_be_written_are_counted(fake: FakeS3) -> None:
    async with served(*against(fake), environ=PATH_STYLE) as server:
        pipe = server.process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
        pipe.close()  # as one who reads the log and ends, or a disk that is full

        async def dropped() -> float:
            async with await RawClient.connect(server.admin_port) as client:
                scraped = parsed((await client.get("/metrics")).body.decode())
            return scraped("rangeserver_log_lines_dropped_total")

        async with await RawClient.connect(server.port) as client:
            for _ in range(3):
                assert (await client.get("/film.mp4", Range="bytes=5-9")).body == FILM[5:10]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await dropped() < 3:  # noqa: ASYNC110 (asked from outside)
                await asyncio.sleep(0.02)
        server.process.terminate()
        assert await server.ended() == 0


async def test_every_mount_is_announced(fake: FakeS3, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("""
        [[mounts]]
        path = "/x/y/"
        bucket = "stills"
        [[mounts]]
        path = "/x/"
        bucket = "cuts"
    """)
    arguments = (*against(fake), "--config", str(path))
    async with served(*arguments, environ=PATH_STYLE) as server:
        url = f"http://127.0.0.1:{server.port}"
        lines = [(await server.line())["message"] for _ in range(2)]
        assert lines == [f"serving bucket cuts at {url}/x/", f"serving bucket stills at {url}/x/y/"]


@pytest.mark.fault("E1")
async def test_a_running_response_is_finished_after_sigterm(fake: FakeS3) -> None:
    async with served(*against(fake), environ=PATH_STYLE) as server:
        client = await half_a_film(server, fake)
        server.process.send_signal(signal.SIGTERM)
        await server.line_with("draining")
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect(server.port)
        fake.release()
        assert await client.rest() == FILM
        client.close()
        assert (await server.line())["outcome"] == "complete"
        assert await server.ended() == 0


@pytest.mark.fault("E2")
async def test_a_response_that_outlasts_the_drain_is_aborted(fake: FakeS3) -> None:
    environ = {**PATH_STYLE, "RANGESERVER_SERVER__DRAIN_SECONDS": "0.3"}
    async with served(*against(fake), environ=environ) as server:
        client = await half_a_film(server, fake)
        server.process.send_signal(signal.SIGTERM)
        assert len(await client.rest()) < len(FILM)
        assert client.was_reset
        client.close()
        await server.line_with("draining")
        assert (await server.line())["outcome"] == "drained"
        assert await server.ended() == 0


@pytest.mark.parametrize("size", [100_000, 180_000, 260_000])
async def test_a_response_that_lies_in_a_buffer_is_not_ended_as_if_it_were_sent(
    size: int, fake: FakeS3
) -> None:
    fake.put("film.mp4", FILM[:size])
    environ = {**PATH_STYLE, "RANGESERVER_SERVER__DRAIN_SECONDS": "0.3"}
    async with (
        served(*against(fake), environ=environ) as server,
        await RawClient.connect(server.port, receive_buffer=4096) as client,
    ):
        await client.ask("/film.mp4")
        await eventually(lambda: any(seen.key == "film.mp4" for seen in fake.seen("GET")))
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        _, headers = await client.head()
        body = await client.rest()
        assert headers["content-length"] == str(size)
        # The kernel may have taken it all; what it had not is cut off for all to see.
        assert len(body) == size or client.was_reset


async def test_a_blocked_log_does_not_keep_the_process(fake: FakeS3) -> None:
    environ = {
        **PATH_STYLE,
        "RANGESERVER_LOG__FORMAT": "text",
        "RANGESERVER_ADMIN__ENABLED": "false",
    }
    server = await start("serve", "--port", "0", *against(fake), environ=environ)
    try:
        assert server.stderr is not None
        async with asyncio.timeout(10):
            line = (await server.stderr.readline()).decode()
        port = int(line.rstrip().rpartition(":")[2])
        # Nobody reads any more: first asyncio's buffer fills up, then the pipe.
        async with await RawClient.connect(port) as client:
            for _ in range(60):
                for _ in range(50):
                    await client.ask("/" + "k" * 1000, method="PUT")
                for _ in range(50):
                    assert (await client.response()).status == 405
            server.send_signal(signal.SIGTERM)
            await eventually(lambda: server.returncode is not None)  # wait() waits for the pipe
            assert server.returncode == 0
    finally:
        if server.returncode is None:
            server.kill()
        await server.communicate()


@pytest.mark.fault("E3")
async def test_a_second_signal_cuts_the_drain_short(fake: FakeS3) -> None:
    async with served(*against(fake), environ=PATH_STYLE) as server:
        client = await half_a_film(server, fake)
        server.process.send_signal(signal.SIGINT)
        await server.line_with("draining")
        server.process.send_signal(signal.SIGINT)
        assert len(await client.rest()) < len(FILM)
        client.close()
        async with asyncio.timeout(5):  # far below drain_seconds
            assert await server.ended() == 0


@pytest.mark.fault("D1")
async def test_a_wrong_configuration_stops_it_with_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[server]\nport = -1\nhots = 1\n")
    finished = await run("serve", "--config", str(path))
    assert finished.code == 78
    assert finished.err.splitlines() == [
        "rangeserver: config: server.port: must be greater than or equal to 0",
        "rangeserver: config: server.hots: unknown setting, did you mean server.host?",
        "rangeserver: config: origin.bucket: must name the bucket to serve",
    ]


async def test_keys_that_cannot_be_used_stop_it_by_the_names_of_their_settings(
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_bytes(b"hunter2")
    path = tmp_path / "config.toml"
    path.write_text(f"""
        [origin]
        bucket = "films"
        sse_customer_key_file = "hunter2"
        [[mounts]]
        path = "/x/"
        bucket = "cuts"
        sse_customer_key_file = "{tmp_path / "key"}"
    """)
    finished = await run_forked("serve", "--config", str(path))
    assert finished.code == 78
    problem = "sse_customer_key_file: the file"
    assert finished.err.splitlines() == [
        f"rangeserver: config: origin.{problem} cannot be read: No such file or directory",
        f"rangeserver: config: mounts[0].{problem} must hold a key of 32 bytes, or its base64",
    ]


async def test_an_unknown_profile_is_a_wrong_configuration() -> None:
    environ = {"RANGESERVER_ORIGIN__PROFILE": "nobody"}
    finished = await run_forked(
        *("serve", "--bucket", "b", "--port", "0", "--admin-port", "0"), environ=environ
    )
    assert finished.code == 78
    assert "origin: no credentials: The config profile (nobody) could not be found" in finished.err


@pytest.mark.fault("E5")
async def test_a_taken_port_stops_it_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = await run_forked(
            "serve", "--bucket", "b", "--port", str(port), "--admin-port", "0"
        )
    assert finished.code == 1
    expected = f"rangeserver: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert finished.err == expected


async def test_a_taken_admin_port_stops_it_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = await run_forked(
            "serve", "--bucket", "b", "--port", "0", "--admin-port", str(port)
        )
    assert finished.code == 1
    expected = f"rangeserver: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert finished.err == expected


async def test_the_admin_listener_counts_what_was_served(fake: FakeS3) -> None:
    async with served(*against(fake), environ=PATH_STYLE) as server:
        async with await RawClient.connect(server.port) as client:
            await client.get("/film.mp4", Range="bytes=5-9")
        assert (await server.line())["log"] == "access"
        async with await RawClient.connect(server.admin_port) as admin:
            now = parsed((await admin.get("/metrics")).body.decode())
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
    name = "rangeserver_responses_total"
    assert now(name, method="GET", status="206", outcome="complete") == 1
    assert now("rangeserver_log_lines_dropped_total") == 0


async def test_log_lines_dropped_are_counted(fake: FakeS3) -> None:
    """The log's reader has stopped: its pipe is full, then our queue, and the viewers go on."""
    async with served(*against(fake), environ=PATH_STYLE) as server:
        assert server.process.stderr is not None
        async with (
            await RawClient.connect(server.port) as client,
            await RawClient.connect(server.admin_port) as admin,
        ):
            dropped = 0.0
            requests = b"OPTIONS /film.mp4 HTTP/1.1\r\nHost: test\r\n\r\n" * 100
            async with asyncio.timeout(30):
                while not dropped:
                    await client.send(requests)
                    for _ in range(100):
                        assert (await client.response()).status == 204
                    now = parsed((await admin.get("/metrics")).body.decode())
                    dropped = now("rangeserver_log_lines_dropped_total")
        server.process.kill()


# --- TLS and SIGHUP


def over_tls(files: Mapping[str, str]) -> tuple[str, ...]:
    return ("--tls-certificate", files["tls_certificate"], "--tls-key", files["tls_key"])


async def test_over_tls_until_it_is_told_to_stop(fake: FakeS3, tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    async with served(*against(fake), *over_tls(files), environ=PATH_STYLE) as server:
        async with await RawClient.connect(server.port) as plain:
            await plain.ask("/film.mp4")
            assert (await plain.response()).status == 400
        assert (await server.line())["status"] == 400
        client = await TlsClient.open(server.port, trusting(files))
        async with client:
            fake.misbehave(faults.stall_after(len(FILM) // 2))
            await client.ask("/film.mp4")
            await client.head()
            await eventually(lambda: fake.stalled == 1)
            server.process.send_signal(signal.SIGTERM)
            await server.line_with("draining")
            fake.release()
            assert await client.rest() == FILM
            assert client.ended_well
        assert (await server.line())["outcome"] == "complete"
        assert await server.ended() == 0


async def test_a_hangup_renews_the_certificate(fake: FakeS3, tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    async with served(*against(fake), *over_tls(files), environ=PATH_STYLE) as server:
        tls_files(tmp_path, "renewed")
        server.process.send_signal(signal.SIGHUP)
        await server.line_with("certificate and key were read again")
        async with await TlsClient.open(server.port, trusting(files)) as client:
            assert (await client.get("/film.mp4", Range="bytes=5-9")).body == FILM[5:10]
        (tmp_path / "key.pem").unlink()
        server.process.send_signal(signal.SIGHUP)
        line = await server.line_with("the certificate is still the old one")
        assert line["level"].lower() == "error"
        assert "server.tls_key: the file cannot be read" in line["message"]
        async with await TlsClient.open(server.port, trusting(files)) as client:
            assert (await client.get("/film.mp4", Range="bytes=5-9")).body == FILM[5:10]
        async with await RawClient.connect(server.admin_port) as admin:
            assert (await admin.get("/healthz")).status == 200  # over plain HTTP


@pytest.mark.fault("E4")
async def test_a_hangup_without_a_certificate_ends_nothing(fake: FakeS3) -> None:
    async with served(*against(fake), environ=PATH_STYLE) as server:
        server.process.send_signal(signal.SIGHUP)
        await server.line_with("there is no certificate to be read again")
        async with await RawClient.connect(server.port) as client:
            assert (await client.get("/film.mp4", Range="bytes=5-9")).body == FILM[5:10]


async def test_failed_handshakes_are_counted(fake: FakeS3, tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    async with served(*against(fake), *over_tls(files), environ=PATH_STYLE) as server:
        async with await RawClient.connect(server.port) as client:
            await client.send(bytes(100))
            await client.rest()
        async with await RawClient.connect(server.admin_port) as admin:
            now = parsed((await admin.get("/metrics")).body.decode())
        assert now("rangeserver_tls_handshake_failures_total", reason="protocol") == 1


async def test_a_certificate_that_cannot_be_used_stops_it(tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    swapped = {"tls_certificate": files["tls_key"], "tls_key": files["tls_certificate"]}
    finished = await run_forked("serve", "--bucket", "b", *over_tls(swapped))
    assert finished.code == 78
    assert [line.rpartition(":")[2] for line in finished.err.splitlines()] == [
        " is it in the place of tls_key?",
        " is it in the place of tls_certificate?",
    ]
