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
from typing import Any, cast

from rangeserver.process.closing import UNREAD
from rangeserver.process.connection import Connection
from rangeserver.process.tls import HandshakeFailure
from rangeserver.process.tls_records import RECORD_BYTES, Records
from rangeserver.process.tls_writing import TlsWriting

log = logging.getLogger(__name__)

_HANDSHAKE_BYTES = 32 * 1024
"""A client that says more than this before it has shaken hands wants something else: without a
certificate of its own it has half a KiB to say, with keys for post-quantum cryptography two."""

_TURN_RECORDS = 32
"""So many records of one client are decrypted before others have their turn."""

_IDLE_RECORDS = 100
"""So many records of a connection may hold nothing for us. TLS needs one for new keys, which are
due after millions; each costs us as much as a request, and OpenSSL takes any number of them."""


class TlsTransport(TlsWriting, asyncio.Protocol):
    """The protocol of a plain transport, and the transport of the connection behind TLS.

    ``running`` has those whose handshake is not over, so that a server that stops can abort them.
    A handshake has to end within ``handshake_seconds``, whatever the client sends meanwhile.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connection: Connection,
        *,
        handshake_seconds: float,
        running: set[TlsTransport],
    ) -> None:
        super().__init__(context)
        self._connection: Connection | None = connection
        self._handshake_seconds = handshake_seconds
        self._running = running
        self._incoming = ssl.MemoryBIO()
        self._deadline: asyncio.TimerHandle | None = None
        self._made = False
        self._handshake_left = _HANDSHAKE_BYTES
        self._records = Records()
        self._idle_left = _IDLE_RECORDS
        self._reading = True  # the connection wants to
        self._plain_reading = True
        self._due = False  # to decrypt more, in the next turn of the loop
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
        if self._made:
            self._records.add(data)
            if not self._due:
                self._read()
            return
        self._handshake_left -= len(data)
        self._incoming.write(data)
        self._shake_hands()

    def eof_received(self) -> bool:
        """The client closed its side; with or without a close_notify, what it asked stands."""
        if not self._made or self._closing:
            return False
        self._ended = True
        if not self._due:
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
            if self._handshake_left < 0:
                self._handshake_failed(HandshakeFailure.PROTOCOL)
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
        self._records.add(self._incoming.read())  # OpenSSL takes no more than it uses
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
        """Decrypt what has come, some of it at a time; tell the end once everything before it was
        taken.
        """
        self._due = False
        left = _TURN_RECORDS
        while left and self.is_reading() and self._connection is not None:
            record = self._records.take()
            if record is None:
                break
            left -= 1
            data = self._decrypted(record)
            if data:
                self._connection.data_received(data)
        self._flush()  # TLS has things of its own to say, such as new keys
        if self.is_reading():
            if self._records.has_whole:
                self._read_later()
            elif self._ended and not self._end_told and self._connection is not None:
                self._end_told = True
                if not self._connection.eof_received():
                    self.close()
        self._let_in()

    def _decrypted(self, record: bytes) -> bytes:
        """What a record holds for the connection: nothing, mostly, if it holds something for us."""
        self._incoming.write(record)
        try:
            data = self._tls.read(RECORD_BYTES)
        except ssl.SSLWantReadError:
            self._idle_left -= 1
            if not self._idle_left:
                log.debug("a TLS connection was cut: too many records held nothing")
                self.abort()
            return b""
        except ssl.SSLError as error:
            log.debug("a TLS connection broke: %s", error.reason)
            self.abort()
            return b""
        if not data:  # close_notify
            self._ended = True
            self._records = Records()
        return data

    def _read_later(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._read)

    def _let_in(self) -> None:
        """Read from the plain transport, unless enough has come already."""
        wanted = self._closing or (self._reading and not self._due)
        if wanted != self._plain_reading and not self._plain.is_closing():
            self._plain_reading = wanted
            (self._plain.resume_reading if wanted else self._plain.pause_reading)()

    def pause_reading(self) -> None:
        """Decrypt no more, and let the client wait."""
        self._reading = False
        self._let_in()

    def resume_reading(self) -> None:
        """Go on, with what has come already."""
        self._reading = True
        self._read_later()

    def is_reading(self) -> bool:
        """Whether it is not paused."""
        return self._reading and not self._closing

    def write_eof(self) -> None:
        """Close our side; what the client still says is read and thrown away."""
        super().write_eof()
        self._let_in()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of TLS here, and of the socket below."""
        return self._records.has_whole if name == UNREAD else super().get_extra_info(name, default)


def _failure(error: ssl.SSLError) -> HandshakeFailure:
    reason = error.reason or ""
    if reason in {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}:
        return HandshakeFailure.PLAIN_HTTP
    return HandshakeFailure.CLIENT_REFUSED if "ALERT" in reason else HandshakeFailure.PROTOCOL
