"""Serves an application on our own connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from aiohttp import web

from rangeserver.process.answering import Service
from rangeserver.process.connection import Connection
from rangeserver.process.pipeline import GRACE_SECONDS
from rangeserver.process.places import ConnectionLimits, Places
from rangeserver.process.sockets import BACKLOG
from rangeserver.process.tls import HandshakeFailure, Tls
from rangeserver.process.tls_transport import TlsTransport
from rangeserver.web.exchanges import EXCHANGES
from rangeserver.web.fast_path import FAST_PATH
from rangeserver.web.routing import direct_handler

_CLEANUP_SECONDS = 1.0
"""For what is left after the drain: requests that are answered, and then what they clean up."""


class ConnectionServer:
    """Starts an application, makes a :class:`Connection` for each client, and counts them."""

    def __init__(
        self,
        app: web.Application,
        limits: ConnectionLimits,
        *,
        header_seconds: float,
        keep_alive_seconds: float,
        tls: Tls | None = None,
    ) -> None:
        self._app = app
        self._tls = tls
        self.service = Service(
            asyncio.get_running_loop(), app[EXCHANGES], header_seconds, keep_alive_seconds
        )
        self.places = Places(limits)
        self.connections: set[Connection] = set()
        self.handshaking: set[TlsTransport] = set()
        self.listening: list[asyncio.Server] = []

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Start the application, then accept connections."""
        app, service = self._app, self.service
        app.on_startup.freeze()
        await app.startup()
        app.freeze()
        service.handler = direct_handler(app)
        service.fast_path = app.get(FAST_PATH)
        for sock in sockets:
            listening = await service.loop.create_server(self, sock=sock, backlog=BACKLOG)
            self.listening.append(listening)

    def __call__(self) -> Connection | TlsTransport:
        """A protocol for a connection that was just accepted."""
        connection = Connection(self)
        if self._tls is None:
            return connection
        return TlsTransport(
            self._tls.context,
            connection,
            handshake_seconds=self.service.header_seconds,
            running=self.handshaking,
        )

    def handshake_failed(self, failure: HandshakeFailure) -> None:
        """Count it."""
        if self._tls is not None:
            self._tls.handshake_failed(failure)

    def finish(self) -> None:
        """End each connection as soon as what it has been asked is answered, also later ones."""
        self.service.finishing = True
        for connection in tuple(self.connections):
            connection.pipeline.finish()
        self.service.loop.call_later(GRACE_SECONDS, self._abort_handshakes)

    def stop_listening(self) -> None:
        """Accept no more."""
        while self.listening:
            self.listening.pop().close()

    async def close(self) -> None:
        """Let go of all connections, idle ones first, and clean up after the application."""
        self.stop_listening()
        await asyncio.sleep(0)  # who was accepted asks before
        self.service.finishing = True
        self._abort_handshakes()
        for connection in tuple(self.connections):
            connection.pipeline.finish(grace=False)
        if self._app.frozen:  # it was started
            await self._app.shutdown()
        await self._wait_for_tasks()
        for connection in tuple(self.connections):
            connection.pipeline.close()
        for task in self.service.tasks:
            task.cancel()
        await self._wait_for_tasks()
        await self._app.cleanup()

    async def _wait_for_tasks(self) -> None:
        if self.service.tasks:
            await asyncio.wait(self.service.tasks, timeout=_CLEANUP_SECONDS)

    def _abort_handshakes(self) -> None:
        for arriving in tuple(self.handshaking):
            arriving.abort()
