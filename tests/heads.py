"""A strict reader of the heads of HTTP/1.x answers. It forgives nothing, and both clients use it.

It shares no code with the server: what an answer is, is written down here a second time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

CRLF = b"\r\n"
_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9]{2}) ([\x20-\x7e]*)")
_FIELD_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)"
)
_IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-2][0-9](:[0-5][0-9]){2} GMT"
)


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
