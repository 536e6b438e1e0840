"""The object most tables ask for, and what an answer about it must be."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from tests.fakes.s3 import FakeS3
from tests.wire.http import Answer, check_error

SIZE = 10_000
FILM = random.Random(9110).randbytes(SIZE)
"""No two places in it look alike, so that wrong bytes cannot pass for right ones."""

TARGET = "/film.mp4"
ETAG = '"d41d8cd98f00b204e9800998ecf8427e-3"'
WEAK_ETAG = f"W/{ETAG}"
MODIFIED = "Wed, 01 Jan 2025 00:00:00 GMT"
_STORED = {
    "content-type": "video/mp4",
    "content-language": "ko",
    "cache-control": "public, max-age=3600, immutable",
    "expires": "Thu, 01 Jan 2026 00:00:00 GMT",
    "etag": ETAG,
    "last-modified": MODIFIED,
}
_VALIDATORS = ("etag", "last-modified", "cache-control", "expires")


def put_film(origin: FakeS3) -> None:
    origin.put(
        TARGET.removeprefix("/"),
        FILM,
        etag=ETAG,
        Content_Type="video/mp4",
        Content_Language="ko",
        Cache_Control="public, max-age=3600, immutable",
        Expires="Thu, 01 Jan 2026 00:00:00 GMT",
        x_amz_meta_owner="not for clients",
        x_amz_request_id="4442587FB7D0A2F9",
    )
    origin.put("empty.bin", b"", etag='"empty"')


@dataclass(frozen=True, slots=True)
class Whole:
    """200 with everything."""


@dataclass(frozen=True, slots=True)
class Part:
    """206 with the bytes ``start <= offset < stop``."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Parts:
    """206 multipart with these spans (start, stop) in this order."""

    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """416."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """304."""


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """412."""


@dataclass(frozen=True, slots=True)
class Missing:
    """404."""


Expected = Whole | Part | Parts | Unsatisfiable | NotModified | PreconditionFailed | Missing


def check_film(answer: Answer, expected: Expected, *, method: str = "GET") -> None:
    """The whole answer: status, every field that matters, and each byte."""
    match expected:
        case Whole():
            _check_whole(answer, method)
        case Part():
            _check_part(answer, expected)
        case Parts():
            _check_parts(answer, expected)
        case Unsatisfiable():
            check_error(answer, 416, "range_not_satisfiable")
            assert answer.fields["content-range"] == f"bytes */{SIZE}"
        case NotModified():
            assert answer.status == 304
            assert {name: answer.fields[name] for name in _VALIDATORS} == {
                name: _STORED[name] for name in _VALIDATORS
            }
            assert answer.lacks("Content-Range", "Content-Type")
        case PreconditionFailed():
            check_error(answer, 412, "precondition_failed", method=method)
        case Missing():
            check_error(answer, 404, "not_found", method=method)


def _check_metadata(answer: Answer) -> None:
    fields = answer.fields
    for name, value in _STORED.items():
        assert fields[name] == value, name
    assert fields["accept-ranges"] == "bytes"
    assert fields["age"] == "0"  # here the origin is asked each time
    assert fields["server"] == "rangeserver"
    assert "x-request-id" in fields
    assert not any(name.startswith("x-amz") for name in fields)


def _check_whole(answer: Answer, method: str) -> None:
    assert answer.status == 200
    _check_metadata(answer)
    assert answer.fields["content-length"] == str(SIZE)
    assert answer.lacks("Content-Range")
    assert answer.body == (b"" if method == "HEAD" else FILM)


def _check_part(answer: Answer, expected: Part) -> None:
    assert answer.status == 206
    _check_metadata(answer)
    start, stop = expected.start, expected.stop
    assert answer.fields["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.fields["content-length"] == str(stop - start)
    assert answer.body == FILM[start:stop]


def _check_parts(answer: Answer, expected: Parts) -> None:
    assert answer.status == 206
    content_type = answer.fields["content-type"]
    for name in ("etag", "last-modified", "cache-control", "expires", "content-language"):
        assert answer.fields[name] == _STORED[name]
    # The object's ranges stand in the parts, and nowhere else (RFC 9110 §15.3.7.2).
    assert answer.lacks("Content-Range", "Content-Encoding")
    parts = read_byteranges(content_type, answer.body)
    assert [part.span for part in parts] == list(expected.spans)
    for part in parts:
        start, stop = part.span
        assert part.size == SIZE
        assert part.content_type == "video/mp4"
        assert part.body == FILM[start:stop]


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One part of a multipart/byteranges body."""

    span: tuple[int, int]
    size: int
    content_type: str
    body: bytes = field(repr=False)


def read_byteranges(content_type: str, body: bytes) -> list[BodyPart]:
    """Read a multipart/byteranges body, of which not a byte may be out of place.

    By length from each part's Content-Range, never by searching, so that a boundary that
    happened to stand in the content could not make it pass.
    """
    match = re.fullmatch(r"multipart/byteranges; boundary=([0-9A-Za-z]{16,70})", content_type)
    assert match is not None, content_type
    delimiter = b"--" + match[1].encode()
    assert match[1].encode() not in FILM
    parts: list[BodyPart] = []
    position = 0
    opening = delimiter + b"\r\n"
    while body.startswith(opening, position):
        position += len(opening)
        head, _, _ = body[position:].partition(b"\r\n\r\n")
        position += len(head) + 4
        lines = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
        assert set(lines) == {"Content-Type", "Content-Range"}
        numbers = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", lines["Content-Range"])
        assert numbers is not None, lines
        start, stop, size = int(numbers[1]), int(numbers[2]) + 1, int(numbers[3])
        piece = body[position : position + stop - start]
        parts.append(BodyPart((start, stop), size, lines["Content-Type"], piece))
        position += stop - start
        opening = b"\r\n" + delimiter + b"\r\n"
    assert body[position:] == b"\r\n" + delimiter + b"--\r\n"
    return parts
