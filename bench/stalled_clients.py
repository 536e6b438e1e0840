"""What a stalled client costs: memory of the server process, and of the kernel for its sockets.

Clients ask for a film and stop reading. Run: ``python -m bench.stalled_clients [CLIENTS]``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from bench.command import at_least_one, run

CLIENTS = 200
WAVES = 5
"""What one wave leaves behind, the next uses again: a leak would show as a slope."""

HAS_SS = shutil.which("ss") is not None
FILM_BYTES = 64 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")


async def film(request: web.Request) -> web.StreamResponse:
    """As much of S3 as the server needs: facts, and ranges of zeros at full speed."""
    headers = {"ETag": '"film"', "Content-Type": "video/mp4", "Accept-Ranges": "bytes"}
    if request.method == "HEAD":
        return web.Response(headers=headers | {"Content-Length": str(FILM_BYTES)})
    status, start, stop = 200, 0, FILM_BYTES
    if "Range" in request.headers:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"])
        assert match is not None
        status, start, stop = 206, int(match[1]), int(match[2]) + 1
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{FILM_BYTES}"
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = stop - start
    await response.prepare(request)
    chunk = bytes(1 << 18)
    left = stop - start
    with suppress(ConnectionError):  # the server closes what it no longer needs
        while left:
            await response.write(chunk[: min(len(chunk), left)])
            left -= min(len(chunk), left)
    return response


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def kernel_send_queues(port: int) -> int:
    """Bytes the kernel holds of what the server sent on its client connections (iproute2's ss)."""
    command = ["ss", "-tmnH", "state", "established", "sport", "=", f":{port}"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sum(int(held) for held in re.findall(r",w(\d+),", shown))


async def settled(pid: int) -> int:
    """Resident bytes once they have stopped moving."""
    last = -1
    while (now := resident(pid)) != last:
        last = now
        await asyncio.sleep(1)
    return now


async def stall(port: int) -> socket.socket:
    """A client that asks for the film, reads the header and then nothing."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, b"GET /film.mp4 HTTP/1.1\r\nHost: bench\r\n\r\n")
    begun = await loop.sock_recv(sock, 256)
    if not begun.startswith(b"HTTP/1.1 200 "):  # an error would cost next to nothing
        msg = f"the server does not serve the film: {begun[:64]!r}"
        raise SystemExit(msg)
    return sock


async def main(clients: int, *, cached: bool) -> None:
    """Start origin and server, stall the clients, print what each of them costs."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", film)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    origin = runner.addresses[0][1]
    directory = Path(tempfile.mkdtemp(prefix="stalled-clients-"))
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rangeserver", "serve", "--bucket", "bench", "--port", "0"),
        *("--endpoint-url", f"http://127.0.0.1:{origin}"),
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
            "RANGESERVER_ADMIN__ENABLED": "false",
            "RANGESERVER_CACHE__ENABLED": str(cached),
            "RANGESERVER_CACHE__DIRECTORY": str(directory),
            "RANGESERVER_ORIGIN__MAX_CONNECTIONS": str(clients + 1),
        },
    )
    try:
        how = "read from the cache" if cached else "each with an origin connection"
        print(f"{clients} stalled clients of one film, {how}")
        await _measure(server, clients)
    finally:
        server.send_signal(signal.SIGTERM)
        await server.wait()
        await runner.cleanup()
        shutil.rmtree(directory)


async def _measure(server: asyncio.subprocess.Process, clients: int) -> None:
    assert server.stderr is not None
    port = int((await server.stderr.readline()).decode().rpartition(":")[2].strip('"}\n '))
    for _ in range(3):  # what is loaded once must not count
        (await stall(port)).close()
    before = await settled(server.pid)
    for wave in range(1, WAVES + 1):
        stalled = [await stall(port) for _ in range(clients)]
        held = (await settled(server.pid) - before) / clients / 1024
        print(f"wave {wave}: in the process {held:.0f} KiB each")
        if HAS_SS:
            print(f"        in the kernel {kernel_send_queues(port) / clients / 1024:.0f} KiB each")
        for sock in stalled:
            sock.close()
        await settled(server.pid)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "clients",
        metavar="CLIENTS",
        nargs="?",
        type=at_least_one,
        default=CLIENTS,
        help=f"how many stall at a time; {CLIENTS} if not given",
    )
    parser.add_argument("--cached", action="store_true", help="let the server have its cache")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _options()
    run(lambda: main(arguments.clients, cached=arguments.cached))
