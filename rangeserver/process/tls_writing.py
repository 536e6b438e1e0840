"""The way out through TLS, and its end: each write is encrypted and handed over at once."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from rangeserver.process.tls_records import RECORD_BYTES

log = logging.getLogger(__name__)


class TlsWriting(asyncio.Transport):
    """What a connection behind TLS writes to."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject
        self._plain: asyncio.Transport
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt, and hand over to the plain transport."""
        if self._closing:
            return
        left = memoryview(data)
        records = []
        try:
            while left:
                taken = self._tls.write(left[:RECORD_BYTES])
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
        """It can, though what the client says afterwards is not heard."""
        return True

    def write_eof(self) -> None:
        """Say close_notify after what was written, and close our side of the plain connection.

        TLS closes both ways (RFC 5246 §7.2.1), as most clients still take it: what they say after
        that is not heard.
        """
        if self._say_goodbye():
            self._plain.write_eof()

    # --- the end

    def close(self) -> None:
        """Say close_notify after what was written, and close.

        The client's own is not waited for: nothing that it may still say is wanted (RFC 8446 §6.1).
        """
        self._say_goodbye()
        self._plain.close()

    def _say_goodbye(self) -> bool:
        if self._closing:
            return False
        self._closing = True
        with suppress(ssl.SSLError):  # "want read": for the client's
            self._tls.unwrap()
        self._flush()
        return True

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
