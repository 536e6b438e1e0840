"""Where one request ends and the next begins, however the bytes come."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

import pytest
from aiohttp import EMPTY_PAYLOAD
from aiohttp.http_exceptions import HttpProcessingError
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.process.request_reader import AHEAD_BYTES, RequestReader

PLAIN = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n"
LENGTH = b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n\r\n\r\n\r\n\r\nx"
CHUNKED = b"POST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"6\r\n\r\n\r\nab\r\n1;x=y\r\nc\r\n0\r\nTrailer: x\r\n\r\n"

STREAM = (
    PLAIN + b"\r\n" + CHUNKED + CHUNKS + UPGRADE % b"h2c" + LENGTH + UPGRADE % b"websocket" + PLAIN
)
FOUND = [
    ("/a", b""),
    ("/d", b"\r\n\r\nabc"),
    ("/b", b""),
    ("/c", b"\r\n\r\n\r\n\r\nx"),
    ("/b", b""),
    ("/a", b""),
]


async def requests_in(pieces: Iterable[bytes]) -> list[tuple[str, bytes]]:
    reader, body, found = RequestReader(), EMPTY_PAYLOAD, []
    for piece in pieces:
        data = piece
        if not body.is_eof():
            reader.keep(data)
            data = b""
        while body.is_eof():
            read = reader.read(data)
            data = b""
            if read is not None:
                message, body = read
                found.append((message.path, body))
            elif not reader.ahead:
                break
    return [(path, body.read_nowait()) for path, body in found]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_requests_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    bounds = itertools.pairwise([0, *sorted(cuts), len(STREAM)])
    assert asyncio.run(requests_in(STREAM[a:b] for a, b in bounds)) == FOUND


async def test_they_are_the_same_byte_by_byte() -> None:
    assert await requests_in(bytes([byte]) for byte in STREAM) == FOUND


@pytest.mark.parametrize("behind", [b"5\r\nhello", b"1\r\nx\r\n" * 20_000, b"9999\r\n\r\n\r\n" * 9])
async def test_of_a_body_that_nobody_reads_little_is_parsed(behind: bytes) -> None:
    reader = RequestReader()
    read = reader.read(CHUNKED)
    assert read is not None
    _, body = read
    reader.keep(behind)
    assert body.total_bytes < AHEAD_BYTES
    assert not body.is_eof()


async def test_what_is_broken_behind_a_head_is_no_request() -> None:
    with pytest.raises(HttpProcessingError):
        RequestReader().read(CHUNKED + b"no chunk\r\n")


async def test_a_body_that_breaks_later_tells_who_reads_it() -> None:
    reader = RequestReader()
    read = reader.read(CHUNKED)
    assert read is not None
    reader.keep(b"no chunk\r\n")
    with pytest.raises(HttpProcessingError):
        await read[1].readany()
