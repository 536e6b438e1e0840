"""How an answer of the fake goes over the wire: its span, its framing, its end."""

from __future__ import annotations

import asyncio
import re
import socket
import struct

from tests.fakes.faults import Ending, Framing

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CHUNK = 16 * 1024
_LINGER_ZERO = struct.pack("ii", 1, 0)


def span_of(value: str, size: int) -> tuple[int, int]:
    """The half-open span that a Range field names in an object of ``size`` bytes."""
    match = _RANGE.fullmatch(value)
    assert match is not None, value
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


def framed(data: bytes, framing: Framing) -> bytes:
    if framing is not Framing.CHUNKED:
        return data
    chunks = (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def end(ending: Ending, writer: asyncio.StreamWriter) -> bool:
    """Break the connection; never does it stay."""
    if ending is Ending.RESET:
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        writer.transport.abort()
    return False
