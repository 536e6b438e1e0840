"""A strict client of HTTP/1.x over a raw socket: what an answer is, byte by byte, and that nothing
follows it.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.heads import CRLF, Head, WireError, content_length, parse_head

_MOST_HEAD_BYTES = 64 * 1024
WAIT_SECONDS = 60.0
"""Longest wait for anything: a hang is a failure, not a hang of the tests."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete final response."""

    head: Head
    body: bytes = field(repr=False)

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def fields(self) -> Mapping[str, str]:
        return self.head.fields

    def lacks(self, *names: str) -> bool:
        return not any(name.lower() in self.fields for name in names)


class Wire:
    """One client connection."""

    def __init__(self, address: tuple[str, int], *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(WAIT_SECONDS)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def finish_sending(self) -> None:
        """Half-close: nothing more will come from this side."""
        self.socket.shutdown(socket.SHUT_WR)

    def read_head(self) -> Head:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _MOST_HEAD_BYTES:
                raise WireError(f"no end of the header in {len(self._buffer)} bytes")
            self._receive("in a header")
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer[:] = rest
        return parse_head(head)

    def read_answer(self, method: str = "GET") -> Answer:
        """One final response, framed by the letter of RFC 9112 §6."""
        head = self.read_head()
        if head.status < 200:
            raise WireError(f"interim answer {head.status} where a final one was due")
        return Answer(head, self._read_bytes(content_length(head, method)))

    def read_to_end(self) -> bytes:
        """All that comes until the server closes its side."""
        while self._receive(None):
            pass
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def read_to_reset(self) -> bytes:
        """All that comes until the server resets the connection; a clean end is an error."""
        try:
            rest = self.read_to_end()
        except ConnectionResetError:
            return bytes(self._buffer)
        raise WireError(f"a clean end after {len(rest)} bytes")

    def expect_end(self) -> None:
        """The server has closed, and sent nothing more."""
        rest = self.read_to_end()
        if rest:
            raise WireError(f"{len(rest)} bytes after the last response: {rest[:200]!r}")

    def _read_bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive(f"after {len(self._buffer)} of {count} body bytes")
        body = bytes(self._buffer[:count])
        del self._buffer[:count]
        return body

    def _receive(self, where: str | None) -> bool:
        try:
            data = self.socket.recv(256 * 1024)
        except TimeoutError:
            raise WireError(f"nothing for {WAIT_SECONDS} s {where or 'before the end'}") from None
        if not data and where is not None:
            raise WireError(f"closed {where}: {bytes(self._buffer[:200])!r}")
        self._buffer += data
        return bool(data)


def request(
    target: str | bytes,
    *fields: str | bytes,
    method: str = "GET",
    version: str = "1.1",
    host: str | None = "films.example",
    body: bytes = b"",
) -> bytes:
    """A request with these field lines, each as it is to stand on the wire."""
    raw = target if isinstance(target, bytes) else target.encode()
    lines = [method.encode() + b" " + raw + b" HTTP/" + version.encode()]
    if host is not None:
        lines.append(b"Host: " + host.encode())
    lines += [field if isinstance(field, bytes) else field.encode() for field in fields]
    return CRLF.join(lines) + CRLF * 2 + body


_PROBE_ID = "probe-of-the-wire"


def exchange(
    address: tuple[str, int], message: bytes, *, method: str = "GET", keeps: bool | None = True
) -> Answer:
    """Send one request on its own connection and read exactly one response.

    ``keeps`` says whether the connection must stay open (``None``: either will do). Where it
    stays open, a second request must be answered by the very next byte; where it does not, not
    a byte may follow.
    """
    with Wire(address) as wire:
        wire.send(message)
        answer = wire.read_answer(method)
        if keeps is not None and answer.head.keeps_connection is not keeps:
            raise WireError(f"keeps the connection: {not keeps}, {answer.head}")
        if answer.head.keeps_connection:
            wire.send(
                request("*", f"X-Request-Id: {_PROBE_ID}", "Connection: close", method="OPTIONS")
            )
            probe = wire.read_answer("OPTIONS")
            if probe.status != 204 or probe.fields.get("x-request-id") != _PROBE_ID:
                raise WireError(f"the answer to the next request is {probe}")
        wire.expect_end()
    return answer


_OF_THE_OBJECT = (
    "accept-ranges",
    "etag",
    "last-modified",
    "content-encoding",
    "content-language",
    "content-disposition",
    "expires",
)


def check_error(answer: Answer, status: int, code: str, *, method: str = "GET") -> None:
    """The error contract, whole."""
    assert answer.status == status, answer
    fields = answer.fields
    assert fields["content-type"] == "application/json"
    assert fields["cache-control"] == "no-store"
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["server"] == "rangeserver"
    assert answer.lacks(*_OF_THE_OBJECT)
    assert ("content-range" in fields) is (status == 416)
    assert ("allow" in fields) is (status == 405)
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,64}", fields["x-request-id"])
    if method == "HEAD":
        assert int(fields["content-length"]) > 0
        return
    document = json.loads(answer.body)
    assert set(document) == {"error"}
    error = document["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["code"] == code
    assert error["request_id"] == fields["x-request-id"]
    assert error["message"].endswith(".")
