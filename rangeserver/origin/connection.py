"""One connection to an origin and the answers that come over it: one for each request, and not a
byte besides.

aiohttp takes an answer that nobody has asked for as that to the next request. Origins are known to
send a body after the answer to a HEAD (Swift 2.30 with its 404); were it the bytes of an object,
whoever stored that could write answers for other objects. A connection on which bytes come that
belong to no answer is closed, and what a request finds broken on one that was used before is told
as the end of that connection, which is a reason to repeat the request over a new one.
"""

from __future__ import annotations

import re
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader

_MAX_ERROR_BYTES = 64 * 1024
"""Of what an origin says about an error, this much is read: S3 says it in a few hundred bytes."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_END_BYTES = 3


class OriginConnection(ResponseHandler):
    """Closes itself when more comes than was asked for."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.requests = 0
        self._body: StreamReader | None = None
        self._last_bytes = b""

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent."""
        self.requests += 1
        self._body = None
        self._last_bytes = b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Bytes have come; none, if those that were held back are to be looked at again."""
        # The parser loses an answer when it dislikes what comes behind it.
        while (
            self._skip_payload
            and not self._is_answered
            and (end := self._end_of_head(data)) < len(data)
        ):
            super().data_received(data[:end])
            data = data[end:]
        if data and self._is_answered:
            self._end()
        else:
            super().data_received(data)

    def feed_data(self, data: tuple[Any, StreamReader], size: int = 0) -> None:
        """The head of an answer was read."""
        message, body = data
        if self._is_answered:
            self._end()
            return
        if message.code >= 200:
            self._body = body
        super().feed_data(data, size)

    @property
    def _is_answered(self) -> bool:
        """Whether all of the answer is here."""
        return self._body is not None and self._body.is_eof()

    def _end_of_head(self, data: bytes) -> int:
        """How much of ``data`` belongs to the head that is being read."""
        before = len(self._last_bytes)
        joined = self._last_bytes + data
        found = _END_OF_HEAD.search(joined)
        self._last_bytes = b"" if found is not None else joined[-_END_BYTES:]
        return found.end() - before if found is not None else len(data)

    def _end(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()


class OriginResponse(aiohttp.ClientResponse):
    """A response that hides header lines which are not UTF-8, instead of failing on them, and
    whose body is read as a whole only up to a limit.
    """

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Wait for the head. What is none was perhaps not meant for this request, unless it is the
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
        """The header lines that can be read as text; botocore decodes every one."""
        lines = super().raw_headers
        return lines if all(map(_is_utf8, lines)) else tuple(filter(_is_utf8, lines))

    async def read(self) -> bytes:
        """The body of an error: what stands at its beginning."""
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
