"""What lies between a client's socket and TLS on one side, and its connection on the other."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from enum import StrEnum


class HandshakeFailure(StrEnum):
    """Why a connection never came to a request."""

    PLAIN_HTTP = "plain_http"
    CLIENT_REFUSED = "client_refused"  # it said so; mostly it does not trust the certificate
    PROTOCOL = "protocol"
    TIMEOUT = "timeout"
    CLIENT_GONE = "client_gone"


class Guarded(asyncio.Protocol):
    """A connection that can be behind TLS."""

    __slots__ = ()

    @abstractmethod
    def arrive(self, transport: asyncio.BaseTransport) -> bool:
        """Whether the client may shake hands: it has a place, or will be told that there is none.

        Then either ``connection_made`` follows or ``handshake_failed``.
        """

    @abstractmethod
    def handshake_failed(self, transport: asyncio.Transport, failure: HandshakeFailure) -> None:
        """There will be no TLS; ``transport`` is the plain one, which may be closed already.

        If it is because plain HTTP came, the connection may have it, or else has to close it.
        """
