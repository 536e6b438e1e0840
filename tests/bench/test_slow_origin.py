"""The slow origin: the bytes it says, at the rate it says, and what it counts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from bench.at_once import ask_at_once
from bench.command import MIB, BenchError
from bench.counting import slow_origin
from bench.slow_origin import PATTERN, Pace
from tests.support import RawClient


def test_nothing_becomes_due_while_its_receiver_takes_nothing() -> None:
    pace = Pace(100.0, now=10.0)
    assert pace.due(10.0) == 0
    assert pace.due(12.0) == 200
    pace.hold(12.0)
    assert pace.due(50.0) == 200
    pace.go_on(52.0)
    assert pace.due(53.0) == 300


async def test_ranges_are_those_of_the_whole(tmp_path: Path) -> None:
    async with slow_origin(tmp_path, "origin", usual_ms=0, object_mib=2) as origin:
        async with await RawClient.connect(origin.port) as client:
            head = await client.get("/a", method="HEAD")
            assert head.headers["content-length"] == str(2 * MIB)
            start = MIB - 5
            part = await client.get("/a", Range=f"bytes={start}-{start + 9}")
            assert part.headers["content-range"] == f"bytes {start}-{start + 9}/{2 * MIB}"
            assert part.body == PATTERN[-5:] + PATTERN[:5]
            rest = await client.get("/a", Range=f"bytes={2 * MIB - 3}-")
            assert rest.body == PATTERN[-3:]
        counts = await origin.quiet()
        assert (counts["GET"], counts["HEAD"], counts["bytes"]) == (2, 1, 13)


async def test_each_connection_has_the_rate_and_the_latency(tmp_path: Path) -> None:
    settings = {"usual_ms": 50.0, "object_mib": 1, "megabytes_per_second": 5.0}
    async with slow_origin(tmp_path, "origin", **settings) as origin:
        clients = await asyncio.to_thread(ask_at_once, [origin.port], "/a", 4)
        for client in clients:
            assert client.first_byte_seconds >= 0.049  # timers count in milliseconds
            assert client.last - client.asked >= 0.049 + 0.9 * MIB / 5e6
        assert (await origin.quiet())["bytes"] == 4 * MIB


async def test_an_answer_that_nobody_takes_is_under_way_until_its_client_leaves(
    tmp_path: Path,
) -> None:
    async with slow_origin(tmp_path, "origin", usual_ms=0, object_mib=64) as origin:
        async with await RawClient.connect(origin.port, receive_buffer=65536) as client:
            await client.ask("/a")
            await client.head()
            assert (await origin.counts())["answering"] == 1
        counts = await origin.quiet()
        assert counts["answering"] == 0
        assert counts["bytes"] < 32 * MIB


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (b"200 OK", PATTERN[:5], "ended a connection in the midst"),
        (b"200 OK", b"x" * 10, "wrong bytes"),
        (b"200 OK", PATTERN[:11], "11 bytes of /a, which has 10"),
        (b"503 No", PATTERN[:10], "answered 'HTTP/1.1 503 No'"),
    ],
)
async def test_clients_at_once_want_the_whole_object(status: bytes, body: bytes, said: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 10\r\n\r\n" % status + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(BenchError, match=said):
            await asyncio.to_thread(ask_at_once, [port], "/a", 1)
    with pytest.raises(BenchError, match="cannot be reached"):
        await asyncio.to_thread(ask_at_once, [port], "/a", 1)


async def test_the_origin_is_quiet_only_when_it_is_asked_no_more(tmp_path: Path) -> None:
    async with slow_origin(tmp_path, "origin", usual_ms=500, object_mib=1) as origin:
        asking = asyncio.create_task(asyncio.to_thread(ask_at_once, [origin.port], "/a", 1))
        while not (await origin.counts())["GET"]:
            assert not asking.done()
        began = time.monotonic()
        assert (await origin.quiet())["bytes"] == MIB
        assert time.monotonic() - began > 0.3
        await asking
