"""The servers of the figures: the origin they share, rangeserver, nginx as a relay, and Node."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.alternating import Side
from bench.command import MIB, ROOT, BenchError, require
from bench.load import Target
from bench.processes import Program, clean_environment, free_port, running
from rangeserver.config import OriginConfig

BUCKET = "bench"
OBJECTS = 4
OBJECT_BYTES = 64 * MIB
NODE_DIRECTORY = ROOT / "bench" / "node"
NODE_PACKAGES = ("express", "aws-sdk")

NGINX = "nginx"
NGINX_TUNED = "nginx 16x64k"
NGINX_BUFFERS = {
    NGINX: "",
    NGINX_TUNED: "proxy_buffers 16 64k; proxy_buffer_size 64k;",
}
"""nginx with its defaults, and with buffers fit for large bodies."""

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def work_directory() -> Iterator[Path]:
    """A directory for everything a benchmark writes, gone in the end."""
    with tempfile.TemporaryDirectory(prefix="rangeserver-bench-") as directory:
        yield Path(directory)


async def read_whole(side: Side, targets: Sequence[Target]) -> None:
    """Read every object once, so that all of it is in the side's cache, and in memory."""
    async with aiohttp.ClientSession() as session:
        for target in targets:
            url = f"http://127.0.0.1:{side.port}{side.prefix}{target.path}"
            async with session.get(url) as response:
                received = 0
                async for part in response.content.iter_chunked(MIB):
                    received += len(part)
            if received != target.size:
                msg = f"{side.name} sent {received} bytes of {target.size}"
                raise BenchError(msg)


def make_objects(directory: Path) -> list[Target]:
    """Objects of random bytes, at ``<bucket>/<key>`` below ``directory``."""
    bucket = directory / BUCKET
    bucket.mkdir(parents=True)
    targets = []
    for number in range(OBJECTS):
        name = f"film-{number}.mp4"
        with (bucket / name).open("wb") as file:
            for _ in range(OBJECT_BYTES // MIB):
                file.write(secrets.token_bytes(MIB))
        targets.append(Target(f"/{name}", OBJECT_BYTES))
    return targets


@asynccontextmanager
async def nginx_origin(directory: Path, root: Path) -> AsyncIterator[int]:
    """nginx serving the files below ``root``; its port."""
    async with _nginx("origin", "origin.conf", directory, root=str(root)) as (_, port):
        await _check_origin(port)
        yield port


@asynccontextmanager
async def nginx_relay(name: str, directory: Path, origin_port: int) -> AsyncIterator[Side]:
    """nginx relaying from the origin, uncached; ``name`` is one of :data:`NGINX_BUFFERS`."""
    settings = {"origin_port": str(origin_port), "buffers": NGINX_BUFFERS[name]}
    async with _nginx(name, "relay.conf", directory, **settings) as (program, port):
        yield Side(name, program, port, prefix=f"/{BUCKET}")


@asynccontextmanager
async def nginx_cache(
    name: str, directory: Path, origin_port: int, *, lock: bool = True
) -> AsyncIterator[Side]:
    """nginx with slice and proxy_cache in front of the origin."""
    settings = {"origin_port": str(origin_port), "lock": "on" if lock else "off"}
    async with _nginx(name, "cache.conf", directory, **settings) as (program, port):
        yield Side(name, program, port, prefix=f"/{BUCKET}")


@asynccontextmanager
async def _nginx(
    name: str, template: str, directory: Path, **settings: str
) -> AsyncIterator[tuple[Program, int]]:
    nginx = require("nginx", "nginx-light")
    own = directory / name.replace(" ", "-")
    own.mkdir()
    port = free_port()
    settings |= {"port": str(port), "directory": str(own)}
    # Only root may choose, and as root workers would be nobody, who may not enter our directory.
    settings["user"] = "user root;" if os.geteuid() == 0 else ""
    text = (ROOT / "bench" / "nginx" / template).read_text()
    for key, value in settings.items():
        text = text.replace(f"@{key}@", value)
    config = own / "nginx.conf"
    config.write_text(text)
    command = (nginx, "-p", str(own), "-e", "stderr", "-c", str(config))
    async with running(name, command, own / "output") as program:
        await program.accepts(port)
        yield program, port


async def _check_origin(port: int) -> None:
    """Make sure that the origin does what both sides need. Raises :class:`BenchError`."""
    url = f"http://127.0.0.1:{port}/{BUCKET}/film-0.mp4"
    async with aiohttp.ClientSession() as session:
        async with session.head(url) as head:
            etag = head.headers.get("ETag", "")
            known = head.status == 200 and etag.startswith('"') and head.content_length
        ranged = {"Range": "bytes=1-2", "If-Match": etag}
        async with session.get(url, headers=ranged) as right:
            pinned = right.status == 206
        async with session.get(url, headers=ranged | {"If-Match": '"other"'}) as wrong:
            pinned = pinned and wrong.status == 412
    if not (known and pinned):
        msg = "the origin lacks HEAD, a strong ETag, Range or If-Match"
        raise BenchError(msg)


@dataclass(frozen=True, slots=True)
class OwnServer:
    """A rangeserver and where its metrics are."""

    side: Side
    metrics_url: str


def knows(setting: str) -> bool:
    """Whether this rangeserver has a setting of that name in ``[origin]``."""
    return setting in OriginConfig.model_fields


def signing_variants() -> Mapping[str, Mapping[str, str]]:
    """Names of rangeserver's sides, and the settings that make them."""
    if not knows("signing"):
        return {"rangeserver": {}}
    return {
        f"rangeserver {mode}": {"RANGESERVER_ORIGIN__SIGNING": mode}
        for mode in ("per-object", "per-request")
    }


def cache_settings(directory: Path | None) -> dict[str, str]:
    """Settings that keep the cache in ``directory``, never in the user's, or turn it off."""
    if directory is None:
        return {"RANGESERVER_CACHE__ENABLED": "false"}
    return {"RANGESERVER_CACHE__DIRECTORY": str(directory)}


@asynccontextmanager
async def rangeserver(
    name: str,
    directory: Path,
    origin_port: int,
    settings: Mapping[str, str] | None = None,
    *,
    cache: Path | None,
) -> AsyncIterator[OwnServer]:
    """rangeserver with its defaults: access log (to a file), metrics and admin listener on.

    ``cache`` is the directory of its cache, which several may share; without, it has none.
    """
    environ = clean_environment(
        RANGESERVER_ORIGIN__BUCKET=BUCKET,
        RANGESERVER_ORIGIN__ENDPOINT_URL=f"http://127.0.0.1:{origin_port}",
        RANGESERVER_ORIGIN__ADDRESSING_STYLE="path",
        RANGESERVER_SERVER__PORT="0",
        RANGESERVER_ADMIN__PORT="0",
        **cache_settings(cache),
        **_CREDENTIALS,
        **(settings or {}),
    )
    command = (sys.executable, "-m", "rangeserver", "serve")
    log = directory / f"{name.replace(' ', '-')}.log"
    async with running(name, command, log, environ=environ) as program:
        admin = await program.find_in_output(r"status at (http://[0-9.:]+)")
        port = await program.find_in_output(r"serving bucket \S+ at http://[0-9.]+:([0-9]+)")
        yield OwnServer(Side(name, program, int(port)), f"{admin}/metrics")


@asynccontextmanager
async def node_peer(directory: Path, origin_port: int) -> AsyncIterator[Side]:
    """The program of ``bench/node``, with kept connections to the origin."""
    node = require("node", "nodejs")
    if not all((NODE_DIRECTORY / "node_modules" / name).is_dir() for name in NODE_PACKAGES):
        msg = "express and aws-sdk are missing; fetch them with: npm install --prefix bench/node"
        raise BenchError(msg)
    environ = clean_environment(
        NODE_ENV="production",
        AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE="1",
        ORIGIN=f"http://127.0.0.1:{origin_port}",
        BUCKET=BUCKET,
        **_CREDENTIALS,
    )
    command = (node, str(NODE_DIRECTORY / "server.js"))
    async with running("node", command, directory / "node.log", environ=environ) as program:
        port = await program.find_in_output(r"listening at port ([0-9]+)")
        yield Side("node", program, int(port))
