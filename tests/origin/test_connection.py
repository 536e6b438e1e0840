"""What comes over one connection to an origin, in pieces of any size."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

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
