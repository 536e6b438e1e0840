"""Serving an application on our own connections."""

from __future__ import annotations

from typing import Any, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from rangeserver.process.connections import Connection
from rangeserver.process.guarded import HandshakeFailure
from rangeserver.process.leaving import GRACE_SECONDS
from rangeserver.process.places import ConnectionLimits, Places
from rangeserver.process.tls import Tls
from rangeserver.process.tls_transport import TlsTransport
from rangeserver.web.exchanges import EXCHANGES, Exchanges
from rangeserver.web.fast_path import FAST_PATH, FastPath
from rangeserver.web.routing import direct_handler


class ConnectionServer(web.Server):
    """Makes a :class:`Connection` for each client and counts them."""

    def __init__(
        self,
        stock: web.Server,
        handler: Handler,
        limits: ConnectionLimits,
        options: dict[str, Any],
        exchanges: Exchanges,
        *,
        fast_path: FastPath | None,
        tls: Tls | None,
    ) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]  # which requests there are, the factory says
            request_factory=stock.request_factory,
            handler_cancellation=True,
        )
        self._options = options
        self._tls = tls
        self.places = Places(limits)
        self.finishing = False
        self.handshaking: set[TlsTransport] = set()
        self.exchanges = exchanges
        self.fast_path = fast_path

    def __call__(self) -> Connection | TlsTransport:  # type: ignore[override]  # a protocol it is
        """A protocol for a connection that was just accepted."""
        connection = Connection(self, self, loop=self._loop, **self._options)
        if self._tls is None:
            return connection
        return TlsTransport(
            self._tls.context,
            connection,
            handshake_seconds=self._options["header_seconds"],
            running=self.handshaking,
        )

    def finish(self) -> None:
        """End each connection as soon as what it has been asked is answered, also later ones."""
        self.finishing = True
        for connection in self._own_connections():
            connection.finish()
        self._loop.call_later(GRACE_SECONDS, self._abort_handshakes)

    def pre_shutdown(self) -> None:
        """Close what is idle, and what has not come to asking."""
        self.finishing = True
        self._abort_handshakes()
        for connection in self._own_connections():
            connection.finish(grace=False)

    def _own_connections(self) -> list[Connection]:
        return cast("list[Connection]", self.connections)

    def _abort_handshakes(self) -> None:
        for arriving in tuple(self.handshaking):
            arriving.abort()

    def handshake_failed(self, failure: HandshakeFailure) -> None:
        """Count it."""
        if self._tls is not None:
            self._tls.handshake_failed(failure)


class ConnectionRunner(web.AppRunner):
    """Runs an application on our connections; also what a gunicorn worker can be given."""

    def __init__(
        self,
        app: web.Application,
        limits: ConnectionLimits,
        *,
        header_seconds: float,
        keep_alive_seconds: float,
        tls: Tls | None = None,
    ) -> None:
        # One second suffices for what is left after our own drain; aiohttp waits it twice.
        super().__init__(app, shutdown_timeout=1.0, access_log=None)
        self._limits = limits
        self._tls = tls
        # lingering_time: a request body is read only to keep the connection usable, and for the
        # same reason not decompressed.
        self._options = {
            "auto_decompress": False,
            "header_seconds": header_seconds,
            "keepalive_timeout": keep_alive_seconds,
            "lingering_time": 2.0,
            "access_log": None,
        }

    async def _make_server(self) -> web.Server:
        stock = await super()._make_server()
        handler = direct_handler(self.app)
        return ConnectionServer(
            *(stock, handler, self._limits, self._options, self.app[EXCHANGES]),
            fast_path=self.app.get(FAST_PATH),
            tls=self._tls,
        )
