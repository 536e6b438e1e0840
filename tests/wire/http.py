"""A strict reader of HTTP/1.x answers over a raw socket. It forgives nothing.

It shares no code with the server: what an answer is, is written down here a second time.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

CRLF = b"\r\n"
_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9]{2}) ([\x20-\x7e]*)")
_FIELD_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)"
)
_IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-2][0-9](:[0-5][0-9]){2} GMT"
)
_MOST_HEAD_BYTES = 64 * 1024
WAIT_SECONDS = 10.0
"""Longest wait for anything: a hang is a failure, not a hang of the tests."""


class WireError(AssertionError):
    """The server broke HTTP."""


@dataclass(frozen=True, slots=True)
class Head:
    """A status line and its fields; names in lower case, each at most once."""

    version: str
    status: int
    reason: str
    fields: Mapping[str, str]

    @property
    def keeps_connection(self) -> bool:
        """Whether another request may follow (RFC 9112 §9.3)."""
        option = self.fields.get("connection", "").lower()
        return option != "close" if self.version == "1.1" else option == "keep-alive"


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete final response."""

    head: Head
    body: bytes

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


def parse_head(head: bytes) -> Head:
    """A status line and field lines, without the empty line."""
    first, *lines = head.split(CRLF)
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise WireError(f"bad status line {first!r}")
    fields: dict[str, str] = {}
    for line in lines:
        field = _FIELD_LINE.fullmatch(line)
        if field is None:
            raise WireError(f"bad field line {line!r}")
        name = field[1].decode().lower()
        if name in fields:
            raise WireError(f"field {name} twice")
        fields[name] = field[2].decode()
    return Head(match[1].decode(), int(match[2]), match[3].decode(), fields)


def content_length(head: Head, method: str) -> int:
    """How many body bytes follow this head; exact length is the only framing we promise."""
    if "transfer-encoding" in head.fields:
        raise WireError("chunked: an object's length is known, and so is an error's")
    length = head.fields.get("content-length")
    if length is not None and not re.fullmatch("0|[1-9][0-9]*", length):
        raise WireError(f"bad Content-Length {length!r}")
    date = head.fields.get("date", "")
    if not _IMF_FIXDATE.fullmatch(date):
        raise WireError(f"bad or no Date {date!r}")
    if head.status in {204, 304}:
        if length is not None:
            raise WireError(f"Content-Length {length} on a {head.status}")
        return 0
    if length is None:
        raise WireError("no Content-Length")
    return 0 if method == "HEAD" else int(length)


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
