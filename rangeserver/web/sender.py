"""Writes one response to its connection: the head together with the first bytes of the body.

aiohttp's own way of writing knows neither files nor what was promised, and takes many steps. This
one counts what goes out and refuses to let it run over.
"""

from __future__ import annotations

import asyncio
import time

from rangeserver.errors import StreamAborted
from rangeserver.origin.base import FileSlice, Part
from rangeserver.web.exchange import Exchange
from rangeserver.web.flush import Client, drain, flush
from rangeserver.web.sendfile import Room, send_slice


class Sender:
    """The way of one response out; ``head`` waits for the first bytes that follow it.

    Everything raises ``ConnectionError`` when the client leaves, and :class:`StreamAborted` when
    the body is not what the exchange promises.
    """

    __slots__ = ("_client", "_exchange", "_held", "_held_of_body", "_room")

    def __init__(self, client: Client, exchange: Exchange, room: Room, head: bytes) -> None:
        self._client = client
        self._exchange = exchange
        self._room = room
        self._held = head
        self._held_of_body = 0

    def hold(self, framing: bytes) -> None:
        """Have bytes of the body go out with those that come next."""
        self._held += framing
        self._held_of_body += len(framing)

    async def send(self, part: Part) -> int:
        """Send the next bytes of the body; how many of them their file did not give."""
        transport, held = self._begin(len(part))
        left = 0
        if isinstance(part, FileSlice):
            left = await send_slice(self._client, transport, self._room, held, part, self._exchange)
        else:
            if held:
                transport.writelines((held, part))  # in one call to the kernel
            else:
                transport.write(part)
            await drain(self._client)
        if self._exchange.first_byte is None:
            self._exchange.first_byte = time.monotonic()
        return left

    async def finish(self) -> None:
        """Send what is still held, and return when the kernel has all of the response."""
        exchange = self._exchange
        if self._held:
            transport, held = self._begin(0)
            transport.write(held)
        if exchange.bytes_sent != exchange.bytes_promised:
            msg = f"the body has {exchange.bytes_sent} bytes of the {exchange.bytes_promised}"
            raise StreamAborted(f"{msg} promised")
        await flush(self._client)
        if exchange.first_byte is None:
            exchange.first_byte = time.monotonic()

    def _begin(self, length: int) -> tuple[asyncio.Transport, bytes]:
        """Account for ``length`` bytes more and those held; where they go, and the held ones."""
        exchange = self._exchange
        length += self._held_of_body
        if exchange.bytes_sent + length > exchange.bytes_promised:
            msg = f"the body runs over the {exchange.bytes_promised} bytes promised"
            raise StreamAborted(msg)
        if not exchange.response_begun:
            exchange.begin_response()
        transport = self._client.transport
        if transport is None or transport.is_closing():
            msg = "the client left"
            raise ConnectionResetError(msg)
        # Counted before it is taken over: the progress watch subtracts what still waits.
        exchange.bytes_sent += length
        held = self._held
        self._held, self._held_of_body = b"", 0
        return transport, held
