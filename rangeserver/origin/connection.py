"""One connection to an origin: exactly one answer for each request, and no byte besides.

aiohttp takes an unrequested answer for the answer to the next request. Some origins send a body
after the answer to a HEAD (Swift 2.30 with its 404); if that was an object, its author could write
answers for other objects. So a connection with bytes that belong to no answer is closed. A request
that finds garbage on a connection that was used before reports it as closed, which is a reason to
repeat the request over a new one.

An origin cannot keep the event loop busy either: heads, interim answers and the framing of chunks
are bounded, and parsed a little at a time.
"""

from __future__ import annotations

import re
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import set_exception
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

_MAX_ERROR_BYTES = 64 * 1024
"""So much of an error document is read. Those of S3 have a few hundred bytes."""

_HEAD_BYTES = 64 * 1024
"""Limit of the head of an answer, with interim answers before it. S3 sends 8 KiB at most."""

_INTERIM_ANSWERS = 16
"""Limit of 1xx answers to one request. A GET hardly ever gets one."""

_CHUNKED_BYTES = 16 * 1024
"""So much of a chunked body is parsed at a time. aiohttp stops at each chunk until it was read, and
continues with a copy of what is left."""

_FRAMING_BYTES = 64 * 1024
"""The framing of chunks, with extensions and trailers, may exceed their content by so much."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_END_BYTES = 3


class OriginConnection(ResponseHandler):
    """Closes itself when more comes than was asked for, or more than is allowed."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.requests = 0
        self._await_answer()

    def _await_answer(self) -> None:
        self._body: StreamReader | None = None
        self._chunked = False
        self._due: int | None = None
        """Bytes of the body that are still to come, if the head says how many."""
        self._interim_left = _INTERIM_ANSWERS
        self._head_left = _HEAD_BYTES
        self._last_bytes = b""
        self._held = memoryview(b"")
        self._chunked_bytes = 0

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent."""
        self.requests += 1
        self._await_answer()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; ``b""`` to parse what was held back."""
        rest = self._take_heads(data)
        if data and not rest:
            return
        if self._is_answered and rest:
            self._end()
        elif self._chunked:
            self._take_chunks(rest)
        elif self._due is None:
            super().data_received(rest)
        else:
            due = self._due
            self._due -= min(due, len(rest))
            super().data_received(rest if len(rest) <= due else rest[:due])
            if len(rest) > due:
                self._end()

    def feed_data(self, data: tuple[Any, StreamReader], size: int = 0) -> None:
        """The head of an answer was read."""
        message, body = data
        if self._is_answered:
            self._end()
            return
        if message.code >= 200:
            self._body = body
            self._chunked = message.chunked
            length = message.headers.get(hdrs.CONTENT_LENGTH)
            if not self._chunked and length is not None and not body.is_eof():
                self._due = int(length)
        else:
            self._interim_left -= 1
            if not self._interim_left:
                self._give_up("too many interim answers")
                return
        super().feed_data(data, size)

    def _take_heads(self, data: bytes) -> bytes:
        """Parse heads up to that of the answer itself; returns what follows it."""
        # One by one: if the parser rejects what follows an answer, it loses the answer too.
        while data and self._body is None and self._exception is None:
            end = self._end_of_head(data)
            self._head_left -= end
            if self._head_left < 0:
                self._give_up("its head is too long")
                break
            super().data_received(data if end == len(data) else data[:end])
            data = data[end:]
        return data if self._exception is None else b""

    def _take_chunks(self, data: bytes) -> None:
        """Parse as much of a chunked body as there is room for; the rest is held back."""
        assert self._body is not None
        if data:
            self._held = memoryview(bytes(self._held) + data if self._held else data)
        else:
            super().data_received(b"")  # what the parser has held back
        while self._held and not self._reading_paused and self._exception is None:
            if self._is_answered:
                self._end()
                return
            framing = self._chunked_bytes - self._body.total_bytes
            if framing > self._body.total_bytes + _FRAMING_BYTES:
                self._give_up("its body is framing for the most part")
                return
            piece = bytes(self._held[:_CHUNKED_BYTES])
            self._held = self._held[_CHUNKED_BYTES:]
            self._chunked_bytes += len(piece)
            super().data_received(piece)
        if self._exception is not None and not self._is_answered:
            # aiohttp reports it to one who waits for a head, but not to a reader of the body.
            self._give_up(getattr(self._exception, "message", "its chunks cannot be read"))

    @property
    def _is_answered(self) -> bool:
        """Whether the answer is complete."""
        return self._body is not None and self._body.is_eof()

    def _end_of_head(self, data: bytes) -> int:
        """How many bytes of ``data`` belong to the current head."""
        before = len(self._last_bytes)
        joined = self._last_bytes + data
        found = _END_OF_HEAD.search(joined)
        self._last_bytes = b"" if found is not None else joined[-_END_BYTES:]
        return found.end() - before if found is not None else len(data)

    def _give_up(self, reason: str) -> None:
        """Fail the request, or its body, and close the connection."""
        if self._body is not None:
            set_exception(self._body, aiohttp.ClientPayloadError(reason))
        self._buffer.clear()
        self.set_exception(HttpProcessingError(message=reason))
        self._held = memoryview(b"")
        self._end()

    def _end(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()


class OriginResponse(aiohttp.ClientResponse):
    """A response that hides header lines that are not UTF-8, instead of failing on them, and whose
    body is read as a whole only up to a limit.
    """

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Wait for the head. Garbage may be left over from an earlier request, unless this is the
        first one on its connection.
        """
        used_before = connection.protocol.requests > 1
        try:
            return await super().start(connection)
        except aiohttp.ClientResponseError as error:
            if not used_before:
                raise
            msg = f"what came over a connection that was used before is no answer: {error.message}"
            raise aiohttp.ServerDisconnectedError(msg) from error

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header lines that are UTF-8: botocore decodes every one."""
        lines = super().raw_headers
        return lines if all(map(_is_utf8, lines)) else tuple(filter(_is_utf8, lines))

    async def read(self) -> bytes:
        """The beginning of an error document."""
        parts: list[bytes] = []
        left = _MAX_ERROR_BYTES
        while left and (part := await self.content.read(left)):
            parts.append(part)
            left -= len(part)
        if not left:
            self.close()
        return b"".join(parts)


def _is_utf8(line: tuple[bytes, bytes]) -> bool:
    try:
        line[0].decode()
        line[1].decode()
    except UnicodeDecodeError:
        return False
    return True
