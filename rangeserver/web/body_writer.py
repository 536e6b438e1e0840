"""The only writer of bodies.

A response promises a length; this counts what goes out, and keeps the promise or raises: then the
connection is aborted (:mod:`.cut_off`). aiohttp's own writer knows neither files nor promises, and
takes many steps; this one writes to the transport, or has the kernel send from a file. The head
waits for the first bytes of the body, so that an error before them can still be answered.

There are two ways to drive it. A task awaits :meth:`BodyWriter.send` for each part. The fast path,
which has no task, calls :meth:`BodyWriter.push` whenever the socket has room, and leaves the rest
to a task as soon as it would have to wait for bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from rangeserver.errors import StreamAborted
from rangeserver.origin.base import FileSlice, Part, Representation
from rangeserver.protocol.multipart import Segment
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.web.exchange import Exchange
from rangeserver.web.flush import Client, drain, flush
from rangeserver.web.sendfile import Push, Room, send_by_copying, send_now, take_turns


class BodyWriter:
    """Writes one response, with as many bytes as ``exchange`` promises.

    What sends raises ``ConnectionError`` when the client has left, and :class:`StreamAborted` when
    the body is not what was promised.
    """

    __slots__ = (
        *("_client", "_descriptor", "_held", "_held_of_body", "_push", "_room", "exchange"),
    )

    def __init__(self, exchange: Exchange, room: Room) -> None:
        self.exchange = exchange
        self._room = room
        self._client: Client | None = None
        self._held = b""
        self._held_of_body = 0
        self._push: Push | None = None
        self._descriptor = -1

    def begin(self, client: Client, head: bytes) -> None:
        """Have this head go out with the first bytes that follow it."""
        self._client = client
        self._held = head

    def hold(self, framing: bytes) -> None:
        """Have bytes of the body go out with those that come next."""
        self._held += framing
        self._held_of_body += len(framing)

    async def send(self, part: Part) -> int:
        """Send the next bytes of the body; how many of them their file did not give."""
        transport, held = self._begin_part(len(part))
        left = 0
        if isinstance(part, FileSlice):
            left = await self._send_slice(transport, held, part)
        else:
            if held:
                transport.writelines((held, part))  # in one call to the kernel
            else:
                transport.write(part)
            assert self._client is not None
            await drain(self._client)
        if self.exchange.first_byte is None:
            self.exchange.first_byte = time.monotonic()
        return left

    async def finish(self) -> None:
        """Send what is still held, and return when the kernel has all of the response."""
        exchange, client = self.exchange, self._client
        assert client is not None
        if self._held:
            transport, held = self._begin_part(0)
            transport.write(held)
        if exchange.bytes_sent != exchange.bytes_promised:
            msg = f"the body has {exchange.bytes_sent} bytes of the {exchange.bytes_promised}"
            raise StreamAborted(f"{msg} promised")
        await flush(client)
        if exchange.first_byte is None:
            exchange.first_byte = time.monotonic()

    # --- without a task

    def start(self, client: Client, head: bytes, descriptor: int, *, more: bool) -> bool:
        """Send the head, before bytes of the body if there are ``more``; whether the socket, which
        has ``descriptor``, took all of it.
        """
        self._client = client
        self._descriptor = descriptor
        self.exchange.begin_response()
        self._held = send_now(descriptor, head, more=more)
        return not self._held

    def take(self, part: FileSlice) -> None:
        """Have these bytes be the next that are pushed."""
        transport, _ = self._begin_part(part.length)
        self.exchange.bytes_waiting = part.length  # counted as sent, though nothing has left yet
        self._push = Push(transport, self._descriptor, self.exchange, part)

    def push(self) -> bool:
        """Send what the socket takes now; whether that was the rest of the part."""
        assert self._push is not None
        return self._push()

    @property
    def unsent(self) -> int:
        """How many bytes of the part were not sent; if it is over, its file does not have them."""
        return self._push.left if self._push is not None else 0

    def when_writable(self, call: Callable[[], None]) -> None:
        """Have it called once, when the socket has room again, or others had their turn."""
        assert self._push is not None
        self._room.tell(self._descriptor, call, full=self._push.full)

    def forget(self, call: Callable[[], None]) -> None:
        """Do not have it called."""
        self._room.forget(self._descriptor, call)

    # --- both

    def _begin_part(self, length: int) -> tuple[asyncio.Transport, bytes]:
        """Account for ``length`` bytes more and those held; where they go, and the held ones."""
        exchange = self.exchange
        length += self._held_of_body
        if exchange.bytes_sent + length > exchange.bytes_promised:
            msg = f"the body runs over the {exchange.bytes_promised} bytes promised"
            raise StreamAborted(msg)
        if not exchange.response_begun:
            exchange.begin_response()
        transport = self._client.transport if self._client is not None else None
        if transport is None or transport.is_closing():
            msg = "the client left"
            raise ConnectionResetError(msg)
        # Counted before it is taken over: the progress watch subtracts what still waits.
        exchange.bytes_sent += length
        held = self._held
        self._held, self._held_of_body = b"", 0
        return transport, held

    async def _send_slice(self, transport: asyncio.Transport, head: bytes, part: FileSlice) -> int:
        exchange, client = self.exchange, self._client
        assert client is not None
        exchange.bytes_waiting = part.length  # counted as sent, though nothing has left yet
        try:
            if transport.get_extra_info("sslcontext") is not None:
                if head:
                    transport.write(head)
                return await send_by_copying(client, transport, part, exchange)
            target = transport.get_extra_info("socket").fileno()
            if head and not transport.get_write_buffer_size():
                head = send_now(target, head, more=True)
            if head:
                transport.write(head)
            await flush(client)
            push = Push(transport, target, exchange, part)
            while not push():
                await self._room.wait(target, full=push.full)
            await take_turns(part)
            return push.left
        finally:
            exchange.give_up_waiting()


async def send_body(
    writer: BodyWriter, segments: Sequence[Segment], representation: Representation[Part]
) -> None:
    """Send a planned body, span after span, with one read open at a time.

    Framing is held for the bytes that follow it, so that nothing is sent, not even the head, before
    the origin has answered for the first span.
    """
    for segment in segments:
        if isinstance(segment, bytes):
            writer.hold(segment)
            continue
        rest = await _send_span(writer, segment, representation.read(segment))
        while rest.length:
            before = rest
            rest = await _send_span(writer, rest, representation.read(rest))
            if rest == before:
                msg = "a cache file cannot be read"
                raise StreamAborted(msg)


async def _send_span(
    writer: BodyWriter,
    span: ByteSpan,
    reading: AbstractAsyncContextManager[AsyncIterator[Part]],
) -> ByteSpan:
    """Send what a read gives; what is left of ``span`` if that ended with a file that has less
    than it had, or was given up. It is to be read again then.
    """
    position = span.start
    async with reading as parts:
        async for part in parts:
            left = await writer.send(part)
            position += len(part) - left
            if left:
                return ByteSpan(position, span.stop)
    return ByteSpan(span.stop, span.stop)
