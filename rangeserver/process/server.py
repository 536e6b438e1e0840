"""Serving from start to drained end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from rangeserver.config import AdminConfig, ServerConfig
from rangeserver.process.connection_server import ConnectionServer
from rangeserver.process.monitoring import Monitoring, monitored
from rangeserver.process.places import ConnectionLimits
from rangeserver.process.sockets import BACKLOG, has_queue, listen
from rangeserver.process.tls import Tls
from rangeserver.web.exchange import Outcome

log = logging.getLogger(__name__)

_USER_TIMEOUT_MARGIN = 1.5
"""The kernel's deadline lies behind ours, which can say in the log what happened."""


_ADMIN_IDLE_SECONDS = 30.0
"""For whoever asks for metrics to take them."""


def open_sockets(config: ServerConfig | AdminConfig) -> list[socket.socket]:
    """The listening sockets of a listener. Raises ``OSError``."""
    idle = config.write_idle_seconds if isinstance(config, ServerConfig) else _ADMIN_IDLE_SECONDS
    return listen(config.host, config.port, user_timeout_seconds=idle * _USER_TIMEOUT_MARGIN)


def addresses(sockets: Sequence[socket.socket], *, tls: bool = False) -> list[str]:
    """The URLs under which these sockets can be reached."""
    scheme = "https" if tls else "http"
    urls: list[str] = []
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        urls.append(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")
    return urls


@asynccontextmanager
async def serving(
    app: web.Application,
    config: ServerConfig,
    sockets: Sequence[socket.socket],
    *,
    monitoring: Monitoring | None = None,
    tls: Tls | None = None,
) -> AsyncIterator[ConnectionServer]:
    """Serve ``app`` on ``sockets``, over TLS if given; on leaving, drain and free everything.

    Running responses get ``drain_seconds`` to finish, then their connections are aborted. The
    drain is cut short by cancelling the leaving task. The admin listener outlasts the drain.
    """
    async with monitored(monitoring), _served(app, config, sockets, tls) as server:
        yield server


@asynccontextmanager
async def _served(
    app: web.Application, config: ServerConfig, sockets: Sequence[socket.socket], tls: Tls | None
) -> AsyncIterator[ConnectionServer]:
    server = ConnectionServer(
        app,
        ConnectionLimits(config.max_connections, config.max_connections_per_client),
        header_seconds=config.header_seconds,
        keep_alive_seconds=config.keep_alive_seconds,
        tls=tls,
    )
    try:
        await server.start(sockets)
        yield server
    finally:
        try:
            await _drain(server, sockets, config.drain_seconds)
        finally:
            await server.close()


async def _drain(
    server: ConnectionServer, sockets: Sequence[socket.socket], seconds: float
) -> None:
    exchanges = server.service.exchanges
    exchanges.draining = True
    server.finish()
    await _accept_the_last(sockets)
    server.stop_listening()
    if exchanges:
        running = len(exchanges)
        log.info("draining: responses running: %d, seconds to finish: %g", running, seconds)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await server.places.are_empty()
                await exchanges.wait_for_none()
    finally:
        for exchange in exchanges:
            exchange.abort(Outcome.DRAINED)


async def _accept_the_last(sockets: Sequence[socket.socket]) -> None:
    """Take in who waits in the queue of a listening socket: its end would reset them."""
    for _ in range(BACKLOG):
        if not any(map(has_queue, sockets)):
            break
        await asyncio.sleep(0)  # libuv accepts one in each turn
    await asyncio.sleep(0)


async def serve_until_signalled(
    app: web.Application,
    config: ServerConfig,
    sockets: Sequence[socket.socket],
    *,
    on_ready: Callable[[], None],
    monitoring: Monitoring | None = None,
    tls: Tls | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal cuts the drain short."""
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    task = asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        if signalled.is_set():
            task.cancel()
        signalled.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        async with serving(app, config, sockets, monitoring=monitoring, tls=tls):
            on_ready()
            await signalled.wait()
    except asyncio.CancelledError:
        if not signalled.is_set():
            raise
        task.uncancel()
        log.warning("second signal: running responses were cut off")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    log.info("stopped")
