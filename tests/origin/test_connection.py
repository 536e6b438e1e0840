"""What comes over one connection to an origin, in pieces of any size."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

from rangeserver.origin.connection import OriginConnection

GOOD = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


class Transport(asyncio.Transport):
    """Notes that it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def asked(*, head: bool) -> tuple[OriginConnection, Transport]:
    """A connection on which a request was sent."""
    connection, transport = OriginConnection(asyncio.get_running_loop()), Transport()
    connection.connection_made(transport)
    ask(connection, head=head)
    return connection, transport


def ask(connection: OriginConnection, *, head: bool) -> None:
    connection.set_response_params(skip_payload=head, read_until_eof=True)


async def status(connection: OriginConnection) -> int:
    message: Any = (await connection.read())[0]
    code = message.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("interim", [b"", INTERIM, INTERIM * 3])
@pytest.mark.parametrize("stray", [b"", b"0\r\n\r\n", b"\r\n", b"hello", GOOD, GOOD + b"hello"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
async def test_the_answer_to_a_head_ends_with_its_fields(
    size: int, stray: bytes, interim: bytes
) -> None:
    connection, transport = asked(head=True)
    data = interim + GOOD + stray
    for start in range(0, len(data), size):
        if not transport.closed:
            connection.data_received(data[start : start + size])
    for _ in range(len(interim) // len(INTERIM)):
        assert await status(connection) == 100
    assert await status(connection) == 404
    assert len(connection) == 0
    assert transport.closed is connection.should_close is bool(stray)


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\n", b"\n\r\n"])
async def test_a_head_of_another_ending(ending: bytes) -> None:
    connection, transport = asked(head=True)
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 5" + ending + b"hello")
    assert await status(connection) == 200
    assert transport.closed


@pytest.mark.parametrize("head", [False, True])
async def test_an_answer_to_nothing_ends_the_connection(head: bool) -> None:
    connection, transport = asked(head=head)
    connection.data_received(GOOD if head else GOOD + b"hello")
    assert await status(connection) == 404
    assert not transport.closed
    connection.data_received(GOOD + b"hello")
    assert transport.closed
    assert len(connection) == 0


async def test_one_answer_for_each_request() -> None:
    connection, transport = asked(head=False)
    for requests in range(1, 4):
        assert connection.requests == requests
        connection.data_received(GOOD + b"he")
        connection.data_received(b"llo")
        assert await status(connection) == 404
        ask(connection, head=False)
    assert not transport.closed


async def test_only_so_many_interim_answers_are_taken() -> None:
    connection, transport = asked(head=False)
    connection.data_received(INTERIM * 15)
    assert not transport.closed
    connection.data_received(INTERIM)
    assert transport.closed
    with pytest.raises(HttpProcessingError):
        await connection.read()


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
async def test_a_head_has_so_many_bytes(size: int) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + (b"X-A: " + b"b" * 1000 + b"\r\n") * 60
    for more, good in ((b"", True), (b"X-B: " + b"b" * 7000 + b"\r\n", False)):
        connection, transport = asked(head=False)
        data = head + more + b"Content-Length: 5\r\n\r\nhello"
        for start in range(0, len(data), size):
            if not transport.closed:
                connection.data_received(data[start : start + size])
        assert transport.closed is not good
        if good:
            assert await status(connection) == 200


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def body_of(connection: OriginConnection) -> bytes:
    """All of the body, as it is read on."""
    body: Any = (await connection.read())[1]
    data = bytearray()
    while not body.at_eof():
        connection.resume_reading()
        data += body.read_nowait()
    return bytes(data)


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 1 << 20])
@pytest.mark.parametrize("chunk", [1, 10, 1000, 100_000])
async def test_a_chunked_body_comes_whole(size: int, chunk: int) -> None:
    sent = bytes(range(256)) * (40 if chunk == 1 else 400)
    chunks = (sent[start : start + chunk] for start in range(0, len(sent), chunk))
    data = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in chunks)
    data += b"0\r\n\r\n"
    connection, transport = asked(head=False)
    for start in range(0, len(data), size):
        connection.data_received(data[start : start + size])
    assert await body_of(connection) == sent
    assert not transport.closed


TINY_CHUNKS, EXTENSION = b"1\r\nx\r\n" * 100_000, b"5;a=" + b"1" * 200_000
TRAILERS = b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 20_000


@pytest.mark.parametrize("more", [TINY_CHUNKS, EXTENSION, TRAILERS])
async def test_a_body_is_not_framing_for_the_most_part(more: bytes) -> None:
    connection, transport = asked(head=False)
    connection.data_received(CHUNKED + b"5\r\nhello\r\n")
    assert await status(connection) == 200
    body = connection._body
    assert body is not None
    connection.data_received(more)

    def read_on() -> None:
        while True:
            connection.resume_reading()
            body.read_nowait()

    with pytest.raises(ClientPayloadError):
        read_on()
    assert transport.closed
    assert len(connection._held) == 0


async def test_what_cannot_be_read_is_told_to_who_reads() -> None:
    connection, transport = asked(head=False)
    connection.data_received(CHUNKED + b"5\r\nhello\r\n")
    body: Any = (await connection.read())[1]
    connection.resume_reading()
    assert body.read_nowait() == b"hello"
    connection.data_received(b"no chunk\r\n")
    connection.resume_reading()
    with pytest.raises(ClientPayloadError):
        await body.readany()
    assert transport.closed
