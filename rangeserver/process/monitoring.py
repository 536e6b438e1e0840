"""The admin listener: up before the first client, gone after the last."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from rangeserver.process.connection_server import ConnectionServer
from rangeserver.process.lag import lag_measured
from rangeserver.process.places import ConnectionLimits

_KEEP_ALIVE_SECONDS = 75.0
"""Longer than the usual pause between two scrapes."""

_HEADER_SECONDS = 10.0

ADMIN_CONNECTIONS = 64
"""Plenty for scrapers, probes and people; more would take descriptors from the public port."""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What watches a server: an application, where it listens, who is told the loop's lag."""

    app: web.Application
    sockets: Sequence[socket.socket]
    loop_lagged: Callable[[float], None]


@asynccontextmanager
async def monitored(monitoring: Monitoring | None) -> AsyncIterator[None]:
    """Serve the admin listener, if there is one, and measure the loop, until left."""
    if monitoring is None:
        yield
        return
    server = ConnectionServer(
        monitoring.app,
        ConnectionLimits(ADMIN_CONNECTIONS, per_client=0),
        header_seconds=_HEADER_SECONDS,
        keep_alive_seconds=_KEEP_ALIVE_SECONDS,
    )
    try:
        await server.start(monitoring.sockets)
        with lag_measured(monitoring.loop_lagged):
            yield
    finally:
        await server.close()
