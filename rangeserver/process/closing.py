"""Closing a connection so that its client gets what was written.

If bytes of the client lie unread in a socket when it is closed, or come later, the kernel resets
the connection, and what the client has not taken by then is lost (RFC 9112 §9.6). So our side is
closed first, and what the client still sends is read and thrown away for a moment.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios

LINGER_SECONDS = 2.0
"""How long: it takes a client one round trip to see that we have closed our side."""


UNREAD = "unread"
"""What a transport over another one can be asked by ``get_extra_info``: whether it has something
that nobody has read.
"""


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Whether something has come over a connection that nobody has read yet."""
    if transport.get_extra_info(UNREAD):
        return True
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return False
    count = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
    return int.from_bytes(count, sys.byteorder) > 0


def close_gently(transport: asyncio.Transport | None, seconds: float) -> None:
    """Close our side after what was written, and all of it when the client has closed its own, or
    after so many seconds.

    The protocol has to ignore what still comes, and to return a false value at its end.
    """
    if transport is None or transport.is_closing():
        return
    transport.write_eof()
    asyncio.get_running_loop().call_later(seconds, transport.close)
