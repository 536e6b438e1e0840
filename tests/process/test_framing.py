"""Requests of which not all agree where they end."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage

from rangeserver.process.framing import end_is_certain


async def read(start: str, *fields: str) -> RawRequestMessage:
    loop = asyncio.get_running_loop()
    parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
    lines = (start, "Host: a", *fields)
    messages, _, _ = parser.feed_data("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")
    message = messages[0][0]
    assert isinstance(message, RawRequestMessage)
    return message


@pytest.mark.parametrize(
    "sent",
    [
        ("GET / HTTP/1.1",),
        ("GET / HTTP/1.0",),
        ("POST / HTTP/1.1", "Content-Length: 4"),
        ("POST / HTTP/1.0", "Content-Length: 4"),
        ("POST / HTTP/1.1", "Transfer-Encoding: chunked"),
        ("CONNECT a:1 HTTP/1.1",),
    ],
)
async def test_its_end_is_certain(sent: tuple[str, ...]) -> None:
    assert end_is_certain(await read(*sent))


@pytest.mark.parametrize(
    "sent",
    [
        ("CONNECT a:1 HTTP/1.1", "Content-Length: 4"),
        ("CONNECT a:1 HTTP/1.1", "Transfer-Encoding: chunked"),
        ("POST / HTTP/1.0", "Transfer-Encoding: chunked"),
        ("POST / HTTP/1.1", "Transfer-Encoding:", "Content-Length: 4"),
    ],
)
async def test_its_end_is_not(sent: tuple[str, ...]) -> None:
    assert not end_is_certain(await read(*sent))
