"""A server that stops behind a proxy: what is asked goes to another, and nothing waits or fails."""

from __future__ import annotations

import asyncio
import socket
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.s3 import FakeS3
from tests.faults.tools import needs
from tests.support import RawClient, config_for, eventually, running_app
from tests.tls import TlsClient, tls_files, trusting

FILM = bytes(5 << 20)
"""More than the sockets take."""

CLIP = b"0123456789"


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"film": FILM, "clip": CLIP}


def haproxy(port: int, servers: Sequence[int], directory: Path, *, tls: bool) -> list[str]:
    how = " ssl verify none" if tls else ""
    lines = "\n".join(f"server s{each} 127.0.0.1:{each}{how}" for each in servers)
    (directory / "haproxy.cfg").write_text(f"""
global
    maxconn 500
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    balance roundrobin
    {lines}
""")
    return ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")]


def nginx(port: int, servers: Sequence[int], directory: Path, *, tls: bool) -> list[str]:
    lines = "\n".join(f"server 127.0.0.1:{each};" for each in servers)
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{path}_temp_path {directory}/{path};" for path in paths)
    (directory / "nginx.conf").write_text(f"""
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 500; }}
http {{
    access_log off;
    {temporary}
    upstream back {{ {lines} keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http{"s" if tls else ""}://back;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
""")
    return ["nginx", "-c", str(directory / "nginx.conf"), "-p", str(directory)]


Front = Callable[..., list[str]]


@asynccontextmanager
async def running(
    front: Front, servers: Sequence[int], directory: Path, *, tls: bool
) -> AsyncIterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = front(port, servers, directory, tls=tls)
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        for _ in range(500):
            try:
                (await RawClient.connect(port)).close()
                break
            except ConnectionRefusedError:
                assert process.returncode is None, "the proxy ended"
                await asyncio.sleep(0.02)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def ask(port: int) -> None:
    """Over one of the connections that the proxy has to its servers."""
    async with await RawClient.connect(port) as client:
        response = await client.get("/clip")
        assert (response.status, response.body) == (200, CLIP)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    "front",
    [
        pytest.param(haproxy, marks=needs("haproxy"), id="HAProxy"),
        pytest.param(nginx, marks=needs("nginx"), id="nginx"),
    ],
)
async def test_a_server_that_stops_loses_nothing(
    fake: FakeS3, tmp_path: Path, front: Front, tls: bool
) -> None:
    files = tls_files(tmp_path) if tls else {}
    config = config_for(fake, server={"drain_seconds": 60, **files})
    async with AsyncExitStack() as stack, running_app(config) as stays:
        stops = await stack.enter_async_context(running_app(config))
        servers = stops.server
        # Something has to run there, or it would be gone at once.
        slow = await (TlsClient if tls else RawClient).connect(stops.port, receive_buffer=4096)
        async with slow, running(front, [stops.port, stays.port], tmp_path, tls=tls) as port:
            if isinstance(slow, TlsClient):
                await slow.shake_hands(trusting(files))
            await slow.ask("/film")
            await eventually(lambda: any(each.response_begun for each in stops.active))
            for _ in range(3):
                await asyncio.gather(*(ask(port) for _ in range(20)))
            assert servers.places.taken > 1
            ending = asyncio.create_task(stack.pop_all().aclose())
            await eventually(lambda: stops.active.draining and not stops.server.listening)
            for _ in range(3):
                await asyncio.gather(*(ask(port) for _ in range(20)))
            assert len(stops.active) == 1
            assert (await slow.response()).body == FILM
            async with asyncio.timeout(10):
                await ending
            assert servers.places.taken == 0
