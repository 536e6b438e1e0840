"""A request to S3 as it is sent, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp

_SHORT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ask:
    """GET or HEAD of an object; ``key`` is the bucket's, ``range_header`` a whole field value.

    ``if_match`` is an entity tag as it stands on the wire.
    """

    method: Literal["GET", "HEAD"]
    bucket: str
    key: str
    range_header: str | None = None
    if_match: str | None = None
    version_id: str | None = None


@dataclass(slots=True, eq=False)
class Answer:
    """A good answer (status below 300), header names in lower case or case-insensitive.

    Has to be closed, whatever happens: nothing else gives its connection back.
    """

    status: int
    headers: Mapping[str, str]
    response: aiohttp.ClientResponse | None

    async def read(self, at_most: int) -> bytes:
        """The next bytes of the body; ``b""`` at its end. Raises what aiohttp raises."""
        response = self.response
        assert response is not None, "a HEAD has no body"
        content = response.content
        part = content.read_nowait(at_most)
        if not part and not content.at_eof():
            if response.connection is not None:
                response.connection.protocol.resume_reading()
            part = await content.readany()
        length = response.content_length
        if response.connection is not None and (length is None or length - content.total_bytes <= _SHORT_BYTES):
            content.set_read_chunk_size(_SHORT_BYTES)
            response.connection.protocol.resume_reading()
        return part

    def close(self) -> None:
        """Give the connection back: for other requests if the body was read to its end, else
        closed, for the rest of a film is not worth a connection.
        """
        if self.response is not None:
            self.response.close()
