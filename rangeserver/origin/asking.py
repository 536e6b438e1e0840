"""A request to S3 as it is sent, and the answer to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp

from rangeserver.origin.slots import Slot

_FLOWING_BYTES = 64 * 1024
"""A body that has no more than this to come is read without waiting to be asked."""


_TURN_PARTS = 16
"""After so many parts of a body others have their turn, if they had none meanwhile."""


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
    slot: Slot | None = None
    """The place that it has."""
    _parts: int = 0

    async def read(self) -> bytes:
        """The next bytes of the body; ``b""`` at its end. Raises what aiohttp raises.

        The origin's connection is read from only while somebody waits here, once, so that a client
        that has stopped holds a single part: what the event loop reads at a time, 250 KiB with
        uvloop, over TLS up to twice that. What comes meanwhile waits in the kernel, and over TLS
        as much again in its layer.
        """
        response = self.response
        assert response is not None, "a HEAD has no body"
        content = response.content
        part = content.read_nowait()
        if not part and not content.at_eof():
            _resume(response)
            part = await content.readany()
            self._parts += 1
            if not self._parts % _TURN_PARTS:
                await asyncio.sleep(0)  # small chunks come many at a time, and wait for nothing
        length = response.content_length
        if length is None or length - content.total_bytes <= _FLOWING_BYTES:
            # Whoever has the last byte does not ask for more, and the end of the body has to be
            # seen before its connection can be used again. A chunked one ends nobody knows where.
            content.set_read_chunk_size(_FLOWING_BYTES)
            _resume(response)
        return part

    def close(self) -> None:
        """Give the connection back: for other requests if the body was read to its end, else
        closed, for the rest of a film is not worth a connection.
        """
        if self.response is not None:
            self.response.close()
        if self.slot is not None:
            self.slot.release()


def _resume(response: aiohttp.ClientResponse) -> None:
    """Have aiohttp read on, which pauses at each part (:mod:`rangeserver.origin.pool`)."""
    connection = response.connection
    if connection is None or connection.protocol is None or connection.transport is None:
        return
    if not connection.transport.is_reading():
        connection.protocol.resume_reading()
