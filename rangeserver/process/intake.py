"""What a client has sent and nobody has dealt with yet: cut where one request ends, and bounded.

aiohttp's parser, left alone, reads on while a response is running: 32 requests of 128 fields of
8 KiB each. It gets one request at a time here, and the next one when that is answered.
"""

from __future__ import annotations

HEAD_BYTES = 32 * 1024
"""The most that a request line and its fields may have together. nginx takes as much, HAProxy half
of it."""

AHEAD_BYTES = 16 * 1024
"""So much may lie behind a request that is being answered; then no more is read, but for what the
event loop has just taken from the socket."""

END_OF_HEAD = b"\r\n\r\n"


class Intake:
    """The bytes of one client that the parser was not given yet, and how far it has come."""

    __slots__ = ("_seam", "ahead", "body_due", "head_bytes", "uncut")

    def __init__(self) -> None:
        self.ahead = bytearray()
        """What lies behind the request that is being read or answered."""
        self.head_bytes = 0
        """How much the parser was given of a head of which it has not said that it is whole."""
        self.body_due: int | None = 0
        """How much of a body is to come; ``None`` if only the parser can tell where it ends."""
        self.uncut = False
        """Whether the parser may hold bytes that lie behind a request."""
        self._seam = b""

    def cut(self, data: bytes) -> bytes:
        """What the parser is to be given of ``data``: what belongs to the current head. The rest is
        kept; nothing may lie there yet.
        """
        joined = self._seam + data if self._seam else data
        found = joined.find(END_OF_HEAD)
        if found < 0:
            self._seam = joined[1 - len(END_OF_HEAD) :]  # the end may come in two parts
            self.head_bytes += len(data)
            return data
        end = found + len(END_OF_HEAD) - len(self._seam)
        self._seam = b""
        self.head_bytes += end
        if end == len(data):
            return data
        self.ahead += data[end:]
        return data[:end]

    def cut_body(self, data: bytes) -> bytes:
        """The same where a body is to come."""
        if self.body_due is None:
            self.uncut = True
            return data
        of_body = data[: self.body_due]
        self.body_due -= len(of_body)
        self.ahead += data[len(of_body) :]
        return of_body

    def take_ahead(self) -> bytes:
        """What lies behind a request that is over: it is the next one's."""
        data = bytes(self.ahead)
        self.ahead.clear()
        return data
