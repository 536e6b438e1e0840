"""One client connection: its place, and what comes and goes over it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol, cast

from aiohttp.base_protocol import BaseProtocol

from rangeserver.errors import TlsRequired, TooManyConnections
from rangeserver.process.answering import Service
from rangeserver.process.pipeline import Pipeline
from rangeserver.process.places import Place, Places
from rangeserver.process.tls import HandshakeFailure

_REFUSAL_SECONDS = 1.0
"""How long a client has to take a refusal."""


class Home(Protocol):
    """The server that a connection belongs to."""

    service: Service
    places: Places
    connections: set[Connection]

    def handshake_failed(self, failure: HandshakeFailure) -> None:
        """Count one that did not come to TLS."""


class Connection(BaseProtocol):
    """One client connection. To requests and writers of aiohttp it is their protocol."""

    __slots__ = ("_arriving", "_home", "_place", "peername", "pipeline", "ssl_context")

    def __init__(self, home: Home) -> None:
        super().__init__(home.service.loop)
        self._home = home
        self._place = Place.NONE
        self._arriving: asyncio.Transport | None = None
        """The plain connection, until its handshake is over."""
        self.peername: Any = None
        self.ssl_context: ssl.SSLContext | None = None
        self.pipeline = Pipeline(home.service, self)

    def arrive(self, transport: asyncio.BaseTransport) -> bool:
        """Count the connection, over TLS before its handshake; ``False`` if it cannot stay.

        Over TLS, either ``connection_made`` follows or ``handshake_failed``.
        """
        self.peername = transport.get_extra_info("peername")
        self.pipeline.peer = str(self.peername[0]) if self.peername else ""
        self._arriving = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        self._place = self._home.places.take(self)
        return self._place is not Place.NONE

    def handshake_failed(self, transport: asyncio.Transport, failure: HandshakeFailure) -> None:
        """Give back the place, or say what is spoken here if it is because plain HTTP came; then
        the connection has the plain ``transport``, and otherwise it is closed by its owner.
        """
        self._arriving = None
        self._home.handshake_failed(failure)
        if failure is HandshakeFailure.PLAIN_HTTP:
            transport.set_protocol(self)
            self._open(transport)
            self.pipeline.refuse(TlsRequired, _REFUSAL_SECONDS)
        else:
            self._give_back()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, or answer 503 before anything is asked."""
        self._open(transport)
        if self._place is Place.NONE and not self.arrive(transport):
            self.pipeline.close()
            cast("asyncio.Transport", transport).abort()
        elif self._place is Place.REFUSED:
            self.pipeline.refuse(TooManyConnections, _REFUSAL_SECONDS)
        else:
            self.pipeline.start()
        self._arriving = None

    def _open(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.ssl_context = transport.get_extra_info("sslcontext")
        self._home.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        self.pipeline.receive(data)

    def eof_received(self) -> bool:
        """The client closed its side; whether there is something to answer before we close ours."""
        return self.pipeline.all_was_asked()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything."""
        super().connection_lost(exc)
        self._home.connections.discard(self)
        self._give_back()
        self.pipeline.abort()

    def _give_back(self) -> None:
        place, self._place = self._place, Place.NONE
        if place is Place.ADMITTED:
            self._home.places.leave(self)
        elif place is Place.REFUSED:
            self._home.places.refused()

    @property
    def sockname(self) -> Any:
        """Our own address."""
        return self.transport.get_extra_info("sockname") if self.transport is not None else None

    @property
    def ends_here(self) -> bool:
        """Whether the response to the current request is to be the last."""
        return self._home.service.finishing and not self.pipeline.more_was_sent

    # --- what those see who count the places

    @property
    def peer(self) -> str:
        """The address of the client."""
        return self.pipeline.peer

    @property
    def waiting_since(self) -> float | None:
        """Since when nothing is being answered; ``None`` while something is."""
        return self.pipeline.waiting_since

    def give_way(self) -> bool:
        """Close, unless the client is just asking for something; whether it does."""
        if self._arriving is not None:
            self._arriving.abort()  # it has not come to asking
        elif self.waiting_since is None or self.pipeline.more_was_sent:
            return False
        else:
            self.pipeline.close()
        return True
