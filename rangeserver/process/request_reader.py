"""Reads the requests of one connection, one at a time, and holds a bounded number of bytes.

aiohttp's parser, left alone, reads on while a response is running. Here it is given what belongs to
one request, and the next one when that is answered. What comes until then waits as it came, and if
that is too much, in the socket.
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp import EMPTY_PAYLOAD, hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader

from rangeserver.process.framing import end_is_certain

HEAD_BYTES = 32 * 1024
"""The most that a request line and its fields may have together. nginx takes as much, HAProxy half
of it."""

AHEAD_BYTES = 16 * 1024
"""So much may lie behind a request that is being answered; then no more is read, but for what the
event loop has just taken from the socket."""

_BODY_BYTES = 4 * 1024
"""Bodies are read only to be thrown away: of one that nobody reads, aiohttp keeps twice as much."""

_END = b"\r\n\r\n"
"""An empty line. Neither the head of a request nor a chunked body goes on behind its last one."""


class RequestReader:
    """Makes requests of what comes over ``transport``, which is there before the first byte.

    To aiohttp's parser and bodies it is the protocol whose flow they control.
    """

    __slots__ = (
        *("_body", "_body_due", "_body_is_full", "_holds_back", "_parser", "_seam", "_upgrades"),
        *("ahead", "head_bytes", "transport"),
    )

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.ahead = bytearray()
        """What lies behind the request that is being read or answered."""
        self.head_bytes = 0
        """How much the parser was given of a head of which it has not said that it is whole."""
        self._seam = b""
        """The last bytes that it was given: an empty line may come in two parts."""
        self._parser: HttpRequestParser | None = None
        self._upgrades = False
        """Whether the parser waits for another protocol, which the last request wanted."""
        self._body = EMPTY_PAYLOAD
        self._body_due: int | None = 0
        """How much of it is to come; ``None`` if only the parser can tell where it ends."""
        self._body_is_full = False
        self._holds_back = False

    def read(self, data: bytes) -> tuple[RawRequestMessage, StreamReader] | None:
        """The next request and its body, which may still be coming; ``None`` if its head is not
        whole with what lies ahead and ``data``. Raises :class:`HttpProcessingError`.
        """
        if (
            self.head_bytes
            or self.ahead
            or not data.find(_END) == len(data) - len(_END) < HEAD_BYTES - len(_END)
        ):  # else it is just what a request without a body has, as it mostly comes
            self.ahead += data
            data = self._cut(HEAD_BYTES + 1)
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES:
                raise LineTooLong(data[:100], HEAD_BYTES)
        parser = self._parser
        if parser is None or self._upgrades:
            parser = self._parser = self._new_parser()
            self._upgrades = False
        messages, _, _ = parser.feed_data(data)
        if not messages:
            return None
        self.head_bytes = 0
        message, body = messages[0]
        if not end_is_certain(message):
            raise BadHttpMessage("its end is uncertain")
        if message.upgrade:
            self._upgrades = True
            if message.chunked:
                message = message._replace(should_close=True)
        if body is not EMPTY_PAYLOAD:
            self._body = body
            length = message.headers.get(hdrs.CONTENT_LENGTH, "0")
            self._body_due = None if message.chunked else int(length)
            self._feed_body()
            if error := body.exception():
                raise error
        return message, body

    def keep(self, data: bytes) -> None:
        """Take what comes while a request is being answered: the rest of its body, or what lies
        behind that.
        """
        self.ahead += data
        if not self._body.is_eof():
            self._feed_body()
        if len(self.ahead) >= AHEAD_BYTES:
            self.regulate()

    def _feed_body(self) -> None:
        """Give the parser what lies ahead of the body, until that is more than anybody has read."""
        body, parser = self._body, self._parser
        assert parser is not None
        while self.ahead and not (self._body_is_full or body.is_eof() or body.exception()):
            if self._body_due is None:
                data = self._cut(_BODY_BYTES)
            else:
                data = self._take(self._body_due)
                self._body_due -= len(data)
            try:
                parser.feed_data(data)
            except HttpProcessingError as error:
                body.set_exception(error)

    def _cut(self, limit: int) -> bytes:
        """Take what lies ahead, up to an empty line, but no more than ``limit``."""
        seam = self._seam
        if (found := (seam + self.ahead[: len(_END) - 1]).find(_END)) >= 0:
            stop = found + len(_END) - len(seam)
        elif (found := self.ahead.find(_END, 0, limit)) >= 0:
            stop = found + len(_END)
        else:
            stop = limit
        data = self._take(stop)
        self._seam = b"" if found >= 0 else (seam + data)[1 - len(_END) :]
        return data

    def _take(self, count: int) -> bytes:
        data = bytes(self.ahead[:count])
        del self.ahead[:count]
        return data

    def _new_parser(self) -> HttpRequestParser:
        # It does not decompress bodies, which are only thrown away.
        protocol = cast("BaseProtocol", self)
        loop = asyncio.get_running_loop()
        return HttpRequestParser(protocol, loop, _BODY_BYTES, auto_decompress=False)

    def let_go(self) -> None:
        """Keep nothing, and read on."""
        self.ahead.clear()
        self._parser = None
        self._body = EMPTY_PAYLOAD
        self._body_is_full = False
        self.regulate()

    def regulate(self) -> None:
        """Read from the socket, unless enough has come already."""
        holds_back = self._body_is_full or len(self.ahead) >= AHEAD_BYTES
        transport = self.transport
        if holds_back != self._holds_back and transport is not None and not transport.is_closing():
            self._holds_back = holds_back
            (transport.pause_reading if holds_back else transport.resume_reading)()

    # --- what a body calls

    @property
    def connected(self) -> bool:
        """Whether more can come."""
        return self.transport is not None

    def pause_reading(self) -> None:
        """There is enough of it."""
        self._body_is_full = True
        self.regulate()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 (aiohttp's signature)
        """There is room for more of it; ``resume_parser``: unless this was all."""
        if self._body_is_full:
            self._body_is_full = False
            if resume_parser and self._parser is not None:
                self._feed_body()
            self.regulate()
