"""Players at a server: they take their films at their pace, and tell what they saw."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from bench.command import KIB, MIB, BenchError
from bench.counting import slow_origin
from bench.load import Target
from bench.players import Audience, Players


def audience(*, open_ended: bool, size: int = MIB) -> Audience:
    return Audience(
        films=[Target("/a", size)],
        players=4,
        bytes_per_second=50 * KIB,
        piece_bytes=25 * KIB,
        ramp_seconds=0.1,
        seed=1,
        open_ended=open_ended,
    )


@pytest.mark.parametrize("open_ended", [False, True])
async def test_they_take_no_more_than_they_like_to_have(
    tmp_path: Path, *, open_ended: bool
) -> None:
    async with slow_origin(tmp_path, "origin", usual_ms=0, object_mib=1) as origin:
        players = Players(origin.port, audience(open_ended=open_ended))
        began = time.monotonic()
        await players.come()
        await asyncio.sleep(0.5)
        watched = players.leave()
        lasted = time.monotonic() - began
    assert (watched.players, watched.stalled, watched.never_began) == (4, 0, 0)
    assert len(watched.start_seconds) == 4
    # Ten seconds of the film, what was played since, and what one read brings on top.
    most = 50 * KIB * (10 + lasted) + (256 * KIB if open_ended else 0)
    assert 4 * 100 * KIB < watched.body_bytes <= 4 * most


async def test_a_starved_player_has_stalled(tmp_path: Path) -> None:
    settings = {"usual_ms": 0.0, "object_mib": 1, "megabytes_per_second": 0.025}
    async with slow_origin(tmp_path, "origin", **settings) as origin:
        players = Players(origin.port, audience(open_ended=True))
        await players.come()
        await asyncio.sleep(2.5)
        watched = players.leave()
    assert watched.stalled == 4
    assert watched.stalled_seconds > 0


async def test_a_wrong_answer_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        players = Players(server.sockets[0].getsockname()[1], audience(open_ended=False))
        await players.come()
        await asyncio.sleep(0.1)
        with pytest.raises(BenchError, match="404 Not Found"):
            players.leave()
