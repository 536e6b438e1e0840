"""What a viewer costs that has stopped reading: ``python -m bench.stalled_viewers``.

Viewers ask for a film and read nothing but the header. Those of a cached film (1,000) may hold no
connection to the origin; without the cache (200) each holds one. They come in waves: what one
leaves behind the next uses again, and a leak would show as a slope.

In user space: the growth of the server's resident memory since before the first wave, and of the
Pss of what is anonymous in it, for each viewer. In the kernel: the growth of what all TCP sockets
of the machine are charged for, both ends and those to the origin; of it, as ss tells for each
socket, what the server has to send, and what it has not read yet of what the origin sent. With
sendfile the former is memory of the page cache which all viewers share, charged to each of them.
The growth of the slabs is of the whole machine, and includes both ends' sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from bench.alternating import Side, print_table, reached
from bench.command import KIB, MIB, BenchError, at_least_one, run
from bench.counting import SlowOrigin, slow_origin
from bench.load import Target
from bench.machine import print_machine
from bench.memory import Memory, queues_of, settled, slab_bytes, tcp_bytes
from bench.servers import rangeserver, read_whole, work_directory

CACHED_VIEWERS = 1000
PLAIN_VIEWERS = 200
WAVES = 10
FLAT_SHARE = 0.02
FLAT_WAVES = 3
"""Waves end when so many in a row cost the same, but for this share."""

FILM = Target("/film.mp4", 64 * MIB)
RECEIVE_BUFFER_BYTES = 64 * KIB
ANSWER_SECONDS = 30.0

CACHED_GOAL_KIB = 20
PLAIN_GOAL_KIB = 300


@dataclass(frozen=True, slots=True)
class Wave:
    """What one wave of viewers held, in bytes for each of them."""

    resident: float
    proportional: float
    descriptors: float
    tcp: float
    server_queues: float
    from_origin: float
    slabs: float
    origin_connections: int
    left_behind: int
    """Resident bytes after they left, in all, beyond those before the first came."""


async def benchmark(options: argparse.Namespace) -> None:
    """Stall viewers of both kinds, print what each of them costs, wave by wave."""
    with work_directory() as directory:
        print_machine()
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            origin = await enter(slow_origin(directory, "origin", object_mib=FILM.size // MIB))
            for name, viewers, cache, goal in (
                ("cached", options.cached, directory / "own-cache", CACHED_GOAL_KIB),
                ("pass-through", options.plain, None, PLAIN_GOAL_KIB),
            ):
                settings = {
                    "RANGESERVER_SERVER__MAX_CONNECTIONS": str(viewers + 16),
                    "RANGESERVER_SERVER__WRITE_IDLE_SECONDS": "3600",
                    "RANGESERVER_SERVER__MIN_BYTES_PER_SECOND": "0",
                    "RANGESERVER_ORIGIN__MAX_CONNECTIONS": str(options.plain + 16),
                }
                async with rangeserver(name, directory, origin.port, settings, cache=cache) as own:
                    if cache is not None:
                        await read_whole(own.side, [FILM])
                    print(f"\n{viewers} stalled viewers, {name}", flush=True)
                    waves = await _waves(own.side, origin, viewers, options.waves)
                print_table(_HEADINGS, [_row(number, wave) for number, wave in enumerate(waves, 1)])
                _judge(waves, goal, may_hold=0 if cache is not None else viewers)


async def _waves(side: Side, origin: SlowOrigin, viewers: int, most: int) -> list[Wave]:
    pid = side.program.process.pid
    for _ in range(3):  # what is loaded once must not count
        _leave(await _stalled(side.port, 1))
    before = await settled(pid)
    waves: list[Wave] = []
    while len(waves) < most and not is_flat([wave.resident for wave in waves]):
        waves.append(await _wave(side, origin, viewers, before))
    return waves


async def _wave(side: Side, origin: SlowOrigin, viewers: int, before: Memory) -> Wave:
    pid = side.program.process.pid
    tcp, slabs, queued = tcp_bytes(), slab_bytes(), queues_of(side.port)
    waiting = await _stalled(side.port, viewers)
    held = await settled(pid)
    queues = queues_of(side.port)
    if queues.connections < viewers:
        msg = f"{viewers - queues.connections} of {viewers} viewers were cut off"
        raise BenchError(msg)
    counts = await origin.counts()
    wave = Wave(
        resident=(held.resident - before.resident) / viewers,
        proportional=(held.proportional - before.proportional) / viewers,
        descriptors=(held.descriptors - before.descriptors) / viewers,
        tcp=(tcp_bytes() - tcp) / viewers,
        server_queues=(queues.sent - queued.sent) / viewers,
        from_origin=queues_of(origin.port, clients=True).received / viewers,
        slabs=(slab_bytes() - slabs) / viewers,
        origin_connections=counts["answering"],
        left_behind=0,
    )
    _leave(waiting)
    after = await settled(pid)
    return replace(wave, left_behind=after.resident - before.resident)


async def _stalled(port: int, viewers: int) -> list[socket.socket]:
    """Viewers that ask for the film, read the header and then nothing."""
    loop = asyncio.get_running_loop()
    waiting: list[socket.socket] = []
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            for _ in range(viewers):
                sock = socket.socket()
                waiting.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                await loop.sock_connect(sock, ("127.0.0.1", port))
                request = f"GET {FILM.path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
                await loop.sock_sendall(sock, request)
                begun = await loop.sock_recv(sock, 256)
                if not begun.startswith(b"HTTP/1.1 200 "):  # an error would cost next to nothing
                    msg = f"the server does not serve the film: {begun[:64]!r}"
                    raise BenchError(msg)
    except BaseException as error:
        _leave(waiting)
        if isinstance(error, TimeoutError | OSError):
            msg = f"viewer {len(waiting)} got no answer: {error}"
            raise BenchError(msg) from error
        raise
    return waiting


def _leave(waiting: Sequence[socket.socket]) -> None:
    for sock in waiting:
        sock.close()


def is_flat(costs: Sequence[float]) -> bool:
    """Whether the last waves cost the same."""
    last = costs[-FLAT_WAVES:]
    return len(last) == FLAT_WAVES and max(last) - min(last) <= FLAT_SHARE * max(last)


_HEADINGS = (
    *(
        "wave",
        "RSS KiB",
        "Pss, anonymous KiB",
        "descriptors",
        "kernel: TCP KiB",
        "to send KiB",
        "from the origin KiB",
    ),
    *("slabs KiB", "origin connections, in all", "left behind, in all MiB"),
)


def _row(number: int, wave: Wave) -> tuple[str, ...]:
    user = (wave.resident, wave.proportional)
    kernel = (wave.tcp, wave.server_queues, wave.from_origin, wave.slabs)
    return (
        *(str(number), *(f"{value / KIB:.1f}" for value in user), f"{wave.descriptors:.2f}"),
        *(f"{value / KIB:.1f}" for value in kernel),
        *(str(wave.origin_connections), f"{wave.left_behind / MIB:.1f}"),
    )


def _judge(waves: Sequence[Wave], goal_kib: int, *, may_hold: int) -> None:
    last = waves[-1]
    costs = [wave.resident for wave in waves]
    print(f"user space KiB a viewer, RSS: {reached(last.resident / KIB, at_most=goal_kib)}")
    print(f"origin connections: {reached(last.origin_connections, at_most=may_hold)}")
    print("flat" if is_flat(costs) else f"NOT flat after {len(waves)} waves", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cached", type=at_least_one, default=CACHED_VIEWERS, help="viewers")
    parser.add_argument("--plain", type=at_least_one, default=PLAIN_VIEWERS, help="viewers")
    parser.add_argument("--waves", type=at_least_one, default=WAVES, help="at most")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _options()
    run(lambda: benchmark(arguments))
