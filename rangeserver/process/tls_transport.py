"""TLS between a client's socket and its connection, as a filter that keeps nothing to itself.

The event loops' own TLS has two more buffers, each with limits of its own, and tells the sizes of
those above the one that waits for the socket. Deadlines would not see what a client leaves lying,
and a response would count as sent that is not. Here each write is encrypted and handed over at
once: what the transport below says of its buffer is all there is, and flow control, half-closed
connections and resets are what they are without TLS.

A connection has its place from the moment it is accepted, for a handshake holds a descriptor too.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Any, cast

log = logging.getLogger(__name__)

_RECORD_BYTES = 16 * 1024
"""What one TLS record holds (RFC 8446 §5.1). Taken out one by one, they leave OpenSSL's side with
a buffer of this size and not with that of the largest write."""

_READ_BYTES = 64 * 1024


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


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """The protocol of a plain transport, and the transport of the connection behind TLS.

    ``running`` has those whose handshake is not over, so that a server that stops can abort them.
    A handshake has to end within ``handshake_seconds``, whatever the client sends meanwhile.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connection: Guarded,
        *,
        handshake_seconds: float,
        running: set[TlsTransport],
    ) -> None:
        super().__init__()
        self._context = context
        self._connection: Guarded | None = connection
        self._handshake_seconds = handshake_seconds
        self._running = running
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject
        self._plain: asyncio.Transport
        self._deadline: asyncio.TimerHandle | None = None
        self._made = False
        self._closing = False
        self._reading = True
        self._ended = False  # the client has said all it had to say ...
        self._end_told = False  # ... and the connection knows

    # --- what the plain transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, if the connection may stay."""
        assert self._connection is not None
        self._plain = cast("asyncio.Transport", transport)  # uvloop's are none by their class
        if not self._connection.arrive(transport):
            self._connection = None
            self.abort()
            return
        self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._running.add(self)
        self._deadline = asyncio.get_running_loop().call_later(
            self._handshake_seconds, self._handshake_failed, HandshakeFailure.TIMEOUT
        )

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake, or decrypt."""
        if self._ended or self._closing:
            return
        self._incoming.write(data)
        if self._made:
            self._read()
        else:
            self._shake_hands()

    def eof_received(self) -> bool:
        """The client closed its side; with or without a close_notify, what it asked stands."""
        if not self._made:
            return False
        self._ended = True
        self._read()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the connection."""
        self._closing = True
        connection = self._connection
        if not self._made:
            self._handshake_failed(HandshakeFailure.CLIENT_GONE)
        elif connection is not None:
            self._connection = None
            connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The buffer below is ours, and so are its limits."""
        if self._made and self._connection is not None:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        """There is room again."""
        if self._made and self._connection is not None:
            self._connection.resume_writing()

    # --- the handshake

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            log.debug("no TLS connection: %s", error.reason)
            failure = _failure(error)
            if failure is not HandshakeFailure.PLAIN_HTTP:
                self._flush()  # the alert that tells the client
            self._handshake_failed(failure)
            return
        self._flush()
        self._handshake_over()
        self._made = True
        assert self._connection is not None
        self._connection.connection_made(self)
        self._read()

    def _handshake_failed(self, failure: HandshakeFailure) -> None:
        self._handshake_over()
        self._closing = True
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.handshake_failed(self._plain, failure)
        if failure is HandshakeFailure.TIMEOUT:
            self._plain.abort()
        elif failure is not HandshakeFailure.PLAIN_HTTP:  # that one the connection has taken over
            self._plain.close()

    def _handshake_over(self) -> None:
        self._running.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # --- reading

    def _read(self) -> None:
        """Decrypt what has come, and tell the end once everything before it was taken."""
        while self._reading and not self._closing and self._connection is not None:
            try:
                data = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                log.debug("a TLS connection broke: %s", error.reason)
                self.abort()
                return
            if not data:  # close_notify
                self._ended = True
                break
            self._connection.data_received(data)
        self._flush()  # TLS has things of its own to say, such as new keys
        if self._ended and not self._end_told and self._reading and self._connection is not None:
            self._end_told = True
            if not self._closing and not self._connection.eof_received():
                self.close()

    def pause_reading(self) -> None:
        """Decrypt no more, and let the client wait."""
        self._plain.pause_reading()
        self._reading = False

    def resume_reading(self) -> None:
        """Go on, with what has come already."""
        self._plain.resume_reading()
        self._reading = True
        asyncio.get_running_loop().call_soon(self._read)

    def is_reading(self) -> bool:
        """Whether it is not paused."""
        return self._reading and not self._closing

    # --- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt, and hand over to the plain transport."""
        if self._closing:
            return
        left = memoryview(data)
        records = []
        try:
            while left:
                taken = self._tls.write(left[:_RECORD_BYTES])
                records.append(self._outgoing.read())
                left = left[taken:]
        except ssl.SSLError as error:
            log.debug("a TLS connection broke: %s", error.reason)
            self.abort()
            return
        # Joined: asyncio's writelines, in some versions, does not pause whoever writes too much.
        self._plain.write(b"".join(records))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write one after the other: to join them would copy what encrypting copies anyway."""
        for data in list_of_data:
            self.write(data)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._plain.is_closing():
            self._plain.write(data)

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken over, as they go out: encrypted."""
        return self._plain.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set those of the plain transport."""
        self._plain.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        """TLS closes both ways (RFC 5246 §7.2.1), as most clients still take it."""
        return False

    def write_eof(self) -> None:
        """Not offered."""
        raise NotImplementedError

    # --- the end

    def close(self) -> None:
        """Say close_notify after what was written, and close.

        The client's own is not waited for: nothing that it may still say is wanted (RFC 8446 §6.1).
        """
        if self._closing:
            return
        self._closing = True
        with suppress(ssl.SSLError):  # "want read": for the client's
            self._tls.unwrap()
        self._flush()
        self._plain.close()

    def abort(self) -> None:
        """Close at once, without close_notify: the client sees that something is missing."""
        self._closing = True
        self._plain.abort()

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing or self._plain.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of TLS here, and of the socket below."""
        if name == "sslcontext":
            return self._context
        if name == "ssl_object":
            return self._tls
        return self._plain.get_extra_info(name, default)


def _failure(error: ssl.SSLError) -> HandshakeFailure:
    reason = error.reason or ""
    if reason in {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}:
        return HandshakeFailure.PLAIN_HTTP
    return HandshakeFailure.CLIENT_REFUSED if "ALERT" in reason else HandshakeFailure.PROTOCOL
