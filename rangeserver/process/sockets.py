"""Listening sockets, with the kernel's part of the limits and deadlines set on them.

Linux hands these options down to each accepted socket.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

BACKLOG = 1024
"""Connections the kernel may hold until they are accepted."""

NOTSENT_LOWAT_BYTES = 128 * 1024
"""Unsent bytes the kernel takes over per connection. Without it a client that stops reading
pins 2.9 to 4.1 MB of kernel memory, with it less than a quarter of a MiB (measured)."""


RECEIVE_BUFFER_BYTES = 32 * 1024
"""What the kernel keeps of what a client sends (it doubles it, for what it needs itself), and so
the most that is read of it at a time. Requests are small; without it a client has 128 KiB of the
kernel, up to 6 MiB if it sends fast, and 256 KiB of an event loop's turn."""


_QUEUE_AT = 24
"""Where Linux tells the length of the queue: tcpi_unacked, which has no other use there."""


def listen(host: str, port: int, *, user_timeout_seconds: float) -> list[socket.socket]:
    """Sockets listening on every address that ``host`` resolves to.

    ``user_timeout_seconds`` is how long the kernel lets a peer take nothing before it drops the
    connection: the last resort behind our own write deadline. Raises ``OSError``.
    """
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(_resolved(host, port)):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _set_limits(sock, user_timeout_seconds)
            sock.setblocking(False)  # noqa: FBT003 (the standard library's signature)
            sock.bind(address)
            sock.listen(BACKLOG)
            if port == 0:  # what the system chose for the first address goes for all
                port = sock.getsockname()[1]
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _resolved(host: str, port: int) -> list[Any]:
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        return look_up(flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST)
    except socket.gaierror:
        # A name: just those of its addresses that this machine can have. Of an address that is not
        # asked, for the answer leaves out loopback: 127.0.0.1 is there without any other IPv4.
        return look_up(flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG)


def has_queue(sock: socket.socket) -> bool:
    """Whether somebody waits to be accepted by a listening socket."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE_AT + 4)
    return any(told[_QUEUE_AT:])


def _set_limits(sock: socket.socket, user_timeout_seconds: float) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # connections inherit it, too
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(user_timeout_seconds * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
