"""A request to S3 (:class:`Ask`) and the good answer to it (:class:`Answer`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp

from rangeserver.origin.slots import Slot

_FLOWING_BYTES = 64 * 1024
"""The end of a body, if no longer than this, is read before it is asked for."""

_TURN_PARTS = 16
"""After so many parts that needed no waiting, a body lets other tasks run."""


@dataclass(frozen=True, slots=True)
class Ask:
    """GET or HEAD of an object. ``key`` is the key in the bucket; ``range_header`` and ``if_match``
    are field values as they are sent.
    """

    method: Literal["GET", "HEAD"]
    bucket: str
    key: str
    range_header: str | None = None
    if_match: str | None = None
    version_id: str | None = None


@dataclass(slots=True, eq=False)
class Answer:
    """A good answer (status below 300). Its header names are in lower case or case-insensitive.

    It has to be closed: nothing else frees its connection and its slot.
    """

    status: int
    headers: Mapping[str, str]
    response: aiohttp.ClientResponse | None
    slot: Slot | None = None
    _parts: int = 0

    async def read(self) -> bytes:
        """The next bytes of the body; ``b""`` at its end. Raises what aiohttp raises.

        Each call reads at most once from the connection, and nothing is read between calls. So a
        client that has stopped holds a single part: what the event loop reads at a time, 250 KiB
        with uvloop, over TLS up to twice that. More waits in the kernel, and over TLS as much again
        in its layer.
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
                await asyncio.sleep(0)  # many small chunks come at once, and none waits
        length = response.content_length
        if length is None or length - content.total_bytes <= _FLOWING_BYTES:
            # Nobody asks for more after the last byte, but the connection can be used again only
            # when the end of the body was seen. Where a chunked body ends is not known.
            content.set_read_chunk_size(_FLOWING_BYTES)
            _resume(response)
        return part

    def close(self) -> None:
        """Free the connection and the slot. The connection is used again if the body was read to
        its end, and closed otherwise: to read the rest of a film would cost more than a new one.
        """
        if self.response is not None:
            self.response.close()
        if self.slot is not None:
            self.slot.release()


def _resume(response: aiohttp.ClientResponse) -> None:
    """Let aiohttp read on: it pauses after each part (:mod:`rangeserver.origin.pool`)."""
    connection = response.connection
    if connection is None or connection.protocol is None or connection.transport is None:
        return
    if not connection.transport.is_reading():
        connection.protocol.resume_reading()
