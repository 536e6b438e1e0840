"""The whole demo in one process: an S3, the server in front of it, and a page."""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from pydantic import ByteSize

from rangeserver.app import create_app
from rangeserver.config import (
    AdminConfig,
    CacheConfig,
    Config,
    LogConfig,
    OriginConfig,
    ServerConfig,
)
from rangeserver.demo.bucket import BUCKET, BucketFile, fill_bucket, samples
from rangeserver.demo.embedded_s3 import embedded_s3
from rangeserver.demo.environment import demo_credentials
from rangeserver.demo.feed import Feed
from rangeserver.demo.site import pages_of
from rangeserver.logs import logging_to
from rangeserver.origin.client import open_client
from rangeserver.process.loop import new_event_loop
from rangeserver.process.server import addresses, open_sockets, serve_until_signalled

USUAL_PORT = 8080

_CACHE_BYTES = ByteSize(1 << 30)
"""The demo's cache, which is gone with it: a temporary directory may be in memory."""


def listening_sockets(port: int | None) -> list[socket.socket]:
    """Sockets on ``port``; without one on the usual port or, if that is taken, a free one.

    Raises ``OSError``.
    """
    if port is not None:
        return open_sockets(_server_config(port))
    try:
        return open_sockets(_server_config(USUAL_PORT))
    except OSError:
        return open_sockets(_server_config(0))


def run_demo(
    sockets: Sequence[socket.socket],
    own: BucketFile | None,
    *,
    bytes_per_second: int,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the samples, and ``own`` if given, until Ctrl-C or SIGTERM.

    The samples come from the bucket at ``bytes_per_second``, 0 for no limit. ``on_ready`` gets
    the address of the page.
    """
    # Until the server has handlers of its own, SIGTERM ends the start-up as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    on_disk = {own.key: own.path} if own is not None else {}
    copied = {file: file.path.read_bytes() for file in samples() if file.key not in on_disk}
    if not copied:
        bytes_per_second = 0  # which is of the samples alone
    files = [own, *copied] if own is not None else list(copied)
    with (
        suppress(KeyboardInterrupt),
        demo_credentials(),
        embedded_s3(on_disk, bytes_per_second) as endpoint_url,
        logging_to(LogConfig(level="warning", format="text", access=False)),
        tempfile.TemporaryDirectory(prefix="rangeserver-demo-") as directory,
        asyncio.Runner(loop_factory=new_event_loop) as runner,
    ):
        config = Config(
            cache=CacheConfig(directory=directory, max_bytes=_CACHE_BYTES),
            server=_server_config(sockets[0].getsockname()[1]),
            admin=AdminConfig(enabled=False),
            origin=OriginConfig(bucket=BUCKET, endpoint_url=endpoint_url, addressing_style="path"),
        )

        async def serve() -> None:
            async with open_client(config.origin) as client:
                await fill_bucket(client, copied)
            feed = Feed()
            pages = partial(pages_of, files, feed, bytes_per_second)
            # A hostile page whose host name resolves to this machine must not read the user's file.
            app = create_app(config, observers=[feed.finished], pages=pages, for_strangers=False)
            await serve_until_signalled(
                app,
                config.server,
                sockets,
                on_ready=lambda: on_ready(addresses(sockets)[0] + "/"),
            )

        runner.run(serve())


def _server_config(port: int) -> ServerConfig:
    # Nobody waits for a demo to end: what still runs is cut off, the live feeds among it.
    return ServerConfig(host="127.0.0.1", port=port, max_connections=256, drain_seconds=0)
