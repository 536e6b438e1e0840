"""From a file to a client through the kernel, so that the bytes never enter this process.

uvloop has no sendfile, and those that others offer hide from the deadlines what still waits. So
this sends by itself on the socket of the connection, once what the transport had to send is gone,
and waits for room in the socket beside the event loop's own polling, which it does not disturb.
Over TLS, where the kernel does not know what to send, a thread reads and the transport writes.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress

from rangeserver.origin.base import FileSlice
from rangeserver.sparing import sparing
from rangeserver.web.exchange import Exchange
from rangeserver.web.flush import Client, drain

log = sparing(logging.getLogger(__name__))

_COPY_BYTES = 256 * 1024
_OF_THE_FILE = {errno.EIO, errno.ENOMEM, errno.EINVAL, errno.EBADMSG, errno.ESTALE}
"""An error of sendfile(2) does not say whether it is the file's or the socket's, of which not all
are connection errors to Python: a network that is gone, a peer that is."""

_TURN_BYTES = 1 << 19
"""After as much was taken over without a wait, others have their turn: while they have it, the
client makes room for more. Twice as much at a time cost a third more for each byte."""

_AT_ONCE_BYTES = 1 << 20
"""A slice no longer than this goes in one turn, if it can."""


class Room:
    """Tells when sockets can take more, on any event loop that can watch a descriptor.

    It has an epoll of its own, which the loop watches as one descriptor: loops refuse to be asked
    about a transport's socket, and libuv stops polling a socket for good that has an error.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._waiting: dict[int, Callable[[], None]] = {}
        self._loop.add_reader(self._epoll.fileno(), self._wake)

    def close(self) -> None:
        """Give up what was taken."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def tell(self, descriptor: int, free: Callable[[], None], *, full: bool = True) -> None:
        """Call ``free`` once, when a socket can take more or has an error to tell; after others
        had their turn, if it is not ``full``.
        """
        self._waiting[descriptor] = free
        if full:
            self._epoll.register(descriptor, select.EPOLLOUT | select.EPOLLONESHOT)
        else:
            self._loop.call_soon(self._call, descriptor, free)

    def forget(self, descriptor: int, free: Callable[[], None]) -> None:
        """Call it no more; nothing, if it was called."""
        # The transport may have closed the socket, and another one may have its number.
        if self._waiting.get(descriptor) == free:
            del self._waiting[descriptor]
            with suppress(OSError):
                self._epoll.unregister(descriptor)

    async def wait(self, descriptor: int, *, full: bool = True) -> None:
        """Return when :meth:`tell` would call."""
        room: asyncio.Future[None] = self._loop.create_future()

        def free() -> None:
            if not room.done():
                room.set_result(None)

        self.tell(descriptor, free, full=full)
        try:
            await room
        finally:
            self.forget(descriptor, free)

    def _wake(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            free = self._waiting.get(descriptor)
            if free is not None:
                self._epoll.unregister(descriptor)
                self._call(descriptor, free)

    def _call(self, descriptor: int, free: Callable[[], None]) -> None:
        if self._waiting.get(descriptor) == free:
            del self._waiting[descriptor]
            free()


async def take_turns(part: FileSlice) -> None:
    """Leave others their turn before the next part."""
    if part.length >= _TURN_BYTES:
        await asyncio.sleep(0)


class Push:
    """Gives the kernel a slice of a file, as it has room; ``exchange`` is told what still waits.

    ``full`` is whether the socket had no more room the last time, ``left`` what was not taken yet.
    """

    __slots__ = ("_exchange", "_offset", "_part", "_target", "_transport", "full", "left")

    def __init__(
        self, transport: asyncio.Transport, target: int, exchange: Exchange, part: FileSlice
    ) -> None:
        self._transport = transport
        self._target = target
        self._exchange = exchange
        self._part = part
        self._offset = part.offset
        self.left = part.length
        self.full = False

    def __call__(self) -> bool:
        """Give it what it takes now, but leave others their turn; whether that was the rest, or
        all that the file gives. Raises ``ConnectionError`` when the client leaves.
        """
        source = self._part.file.fileno()
        turn = _TURN_BYTES if self._part.length > _AT_ONCE_BYTES else self._part.length
        try:
            while self.left:
                # Its descriptor is closed with it, and may be another's then.
                if self._transport.is_closing():
                    msg = "the client left"
                    raise ConnectionResetError(msg)
                if turn <= 0:
                    self.full = False
                    break
                try:
                    sent = os.sendfile(self._target, source, self._offset, min(self.left, turn))
                except BlockingIOError:
                    self.full = True
                    break
                except ConnectionError:
                    raise
                except OSError as error:
                    if error.errno not in _OF_THE_FILE:
                        msg = f"the client left: {error}"
                        raise ConnectionResetError(msg) from error
                    log.warning("a cache file could not be read while it was sent: %s", error)
                    return True
                if not sent:
                    return True  # it was cut short, or given up
                self._offset += sent
                self.left -= sent
                turn -= sent
        finally:
            self._exchange.bytes_waiting = self.left
        return not self.left


# PyDLL: a call that cannot block need not give up the interpreter and fight for it again.
_send = ctypes.PyDLL(None).send
_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_send.restype = ctypes.c_ssize_t
_NO_MORE = int(socket.MSG_DONTWAIT)  # flags of the enumeration are slow
_MORE_COMES = _NO_MORE | int(getattr(socket, "MSG_MORE", 0))


def send_now(descriptor: int, data: bytes, *, more: bool) -> bytes:
    """Send, in the same packet as what is sent next if there is ``more``; the bytes that the socket
    did not take.

    Called where the socket of the transport is known by its number alone, which Python's own
    sockets cannot be made of without owning it. An error will be met again by what comes next.
    """
    sent = _send(descriptor, data, len(data), _MORE_COMES if more else _NO_MORE)
    return data[max(sent, 0) :]


async def send_by_copying(
    client: Client, transport: asyncio.Transport, part: FileSlice, exchange: Exchange
) -> int:
    """Send the bytes of a file over TLS; how many of them it did not give."""
    offset, stop = part.offset, part.offset + part.length
    descriptor = part.file.fileno()
    while offset < stop:
        wanted = min(_COPY_BYTES, stop - offset)
        try:
            data = await asyncio.to_thread(os.pread, descriptor, wanted, offset)
        except OSError as error:
            log.warning("a cache file could not be read while it was sent: %s", error)
            break
        if not data:
            break
        exchange.bytes_waiting -= len(data)  # it is the transport's to count now
        offset += len(data)
        transport.write(data)
        del data  # a client that takes nothing need not have it in memory twice
        await drain(client)
    return stop - offset
