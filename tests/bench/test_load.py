"""The load generator: it counts what is right and stops at what is wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.command import BenchError
from bench.load import Load, Target, percentile, put_load

SIZE = 1000
LENGTH = 10

Answer = Callable[[int, int], bytes]


def right(start: int, last: int) -> bytes:
    head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {last - start + 1}\r\n"
    return f"{head}Content-Range: bytes {start}-{last}/{SIZE}\r\n\r\n".encode() + b"x" * LENGTH


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while header := await reader.readuntil(b"\r\n\r\n"):
                found = re.search(rb"Range: bytes=(\d+)-(\d+)", header)
                assert found is not None
                writer.write(answer(int(found[1]), int(found[2])))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def load(requests: int = 5, connections: int = 2) -> Load:
    return Load([Target("/a", SIZE)], LENGTH, connections, seed=1, requests=requests)


async def test_every_answer_is_counted_and_timed() -> None:
    async with server(right) as port:
        result = await put_load(port, load(requests=5))
    assert (result.requests, result.body_bytes) == (5, 5 * LENGTH)
    assert len(result.first_bytes) == 5
    assert all(seconds > 0 for seconds in result.first_bytes)


async def test_a_pause_lies_between_requests() -> None:
    async with server(right) as port:
        paused = Load([Target("/a", SIZE)], LENGTH, 1, 1, requests=3, pause_seconds=0.05)
        result = await put_load(port, paused)
    assert result.seconds >= 0.15


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda a, b: right(a, b).replace(b"206 Partial Content", b"200 OK"), "b'200'"),
        (lambda a, b: right(a + 1, b + 1), r"length and range .*b'bytes "),
        (lambda a, b: right(a, b + 1), "b'11'"),
        (lambda a, b: right(a, b) + b"y", "1 bytes more than promised"),
        (lambda *_: b"x" * 20_000, "wanted"),
    ],
    ids=["status", "range", "length", "body", "no header"],
)
async def test_a_wrong_answer_ends_the_run(wrong: Answer, said: str) -> None:
    async with server(wrong) as port:
        with pytest.raises(BenchError, match=said):
            await put_load(port, load())


async def test_nobody_listening_is_said() -> None:
    async with server(right) as port:
        pass
    with pytest.raises(BenchError, match="cannot be reached"):
        await put_load(port, load())


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 99.9, 100)] == [
        1,
        50,
        99,
        100,
        100,
    ]
