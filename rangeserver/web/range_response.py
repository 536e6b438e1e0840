"""The response for an object, in aiohttp's terms: prepared, sent part by part, ended.

What goes over the wire is :class:`.BodyWriter`'s to write; this is how aiohttp and its middlewares
see it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiohttp import HttpVersion, HttpVersion10, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from rangeserver.origin.base import Part
from rangeserver.protocol.response_head import response_head
from rangeserver.protocol.response_plan import ResponsePlan
from rangeserver.protocol.validators import format_http_date
from rangeserver.web.body_writer import BodyWriter
from rangeserver.web.exchange import Exchange, own_fields
from rangeserver.web.sendfile import Room


class RangeResponse(web.StreamResponse):
    """A planned response; its ``writer`` is there until it has ended."""

    def __init__(self, plan: ResponsePlan, exchange: Exchange, room: Room) -> None:
        super().__init__(status=plan.status, headers=plan.headers)
        exchange.bytes_promised = (plan.content_length or 0) if plan.body else 0
        self.writer = BodyWriter(exchange, room)
        self._length = plan.content_length
        self._keeps_alive: bool | None = None
        self._begun = self._ended = False

    @property
    def prepared(self) -> bool:
        """Whether the head was made."""
        return self._begun

    @property
    def keep_alive(self) -> bool | None:
        """Whether the head says that the connection stays open; ``None`` before it was made."""
        return self._keeps_alive

    def force_close(self) -> None:
        """Have the head say that the connection ends with this response."""
        self._keeps_alive = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Make the head, with what middlewares have added to it; nothing is sent yet."""
        if not self._begun:
            self._begun = True
            if self._keeps_alive is None:
                self._keeps_alive = request.keep_alive
            fields = {**own_fields(self.writer.exchange.request_id), **self.headers}
            version = request.version
            head = head_of(self.status, fields, self._length, version, keep_alive=self._keeps_alive)
            self.writer.begin(request.protocol, head)
        return None

    async def send(self, part: Part) -> int:
        """Send the next bytes of the body; how many of them their file did not give."""
        return await self.writer.send(part)

    async def write_eof(self, data: bytes = b"") -> None:
        """Return when the kernel has all of the response, or raise if that is not all of it."""
        if self._ended:
            return
        assert not data
        await self.writer.finish()
        self._ended = True
        del self.writer  # aiohttp keeps the response until the next request of the connection


def head_of(
    status: int,
    fields: Mapping[str, str],
    length: int | None,
    version: HttpVersion,
    *,
    keep_alive: bool,
) -> bytes:
    """The head of a response whose body has ``length`` bytes, or that has none of its own (304)."""
    fields = {**fields, hdrs.DATE: format_http_date(int(time.time()))}
    if length is not None:
        fields[hdrs.CONTENT_LENGTH] = str(length)
    if keep_alive == (version == HttpVersion10):  # else it is what the version means anyway
        fields[hdrs.CONNECTION] = "keep-alive" if keep_alive else "close"
    return response_head(version, status, fields)
