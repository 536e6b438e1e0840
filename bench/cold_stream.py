"""The rate of one cold sequential stream: ``python -m bench.cold_stream``.

The origin's first byte is 30 ms late, and each of its connections gives 20 MB/s: the rate of one
plain connection is what there is to beat. nginx is one worker with slice (1 MiB) and proxy_cache.
Every round asks for an object that was never asked for. That the origin gives what it should, and
is not itself what is slow, is measured first: one connection, and many at once.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

from bench.alternating import print_table, reached, spread
from bench.at_once import ask_at_once
from bench.command import MIB, BenchError, at_least_one, run
from bench.counting import SlowOrigin, slow_origin
from bench.machine import print_machine, print_nginx
from bench.processes import Program
from bench.servers import nginx_cache, rangeserver, work_directory

ROUNDS = 3
OBJECT_MIB = 256
FIRST_BYTE_MS = 30.0
MEGABYTES_PER_SECOND = 20.0

PLAIN = "one connection"
PARALLEL = 16
"""Connections that the origin has to serve at their full rate, twice as many as a stream uses."""

_PACING_TOLERANCE = 0.1
_GOAL_TIMES = 6.0


@dataclass(frozen=True, slots=True)
class Reader:
    """Somewhere to read an object from, and whose CPU that costs."""

    name: str
    port: int
    program: Program
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One stream."""

    bytes_per_second: float
    first_byte_seconds: float
    cpu_per_gigabyte: float
    gets: int
    objects: float
    """Bytes that the origin sent, in objects."""


async def benchmark(options: argparse.Namespace) -> None:
    """Check the origin, read from all sides in turns, print the table."""
    with work_directory() as directory:
        print_machine()
        print_nginx(origin=False)
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            habits = {
                "usual_ms": options.first_byte_ms,
                "megabytes_per_second": options.megabytes_per_second,
            }
            probe = await enter(slow_origin(directory, "pacing", object_mib=32, **habits))
            await _check_pacing(probe, options)
            origin = await enter(
                slow_origin(directory, "origin", object_mib=options.object_mib, **habits)
            )
            cache = directory / "own-cache"
            own = await enter(rangeserver("rangeserver", directory, origin.port, cache=cache))
            nginx = await enter(nginx_cache("nginx cache", directory, origin.port))
            readers = [
                Reader("rangeserver", own.side.port, own.side.program),
                Reader("nginx cache", nginx.port, nginx.program, nginx.prefix),
                Reader(PLAIN, origin.port, origin.program),
            ]
            samples = await _alternate(readers, origin, options)
            print_table(_HEADINGS, [_row(name, samples) for name in samples])


async def _check_pacing(origin: SlowOrigin, options: argparse.Namespace) -> None:
    """Raises :class:`BenchError` if connections do not get the rate they should."""
    wanted = options.megabytes_per_second * 1e6
    for connections in (1, PARALLEL):
        clients = await asyncio.to_thread(ask_at_once, [origin.port], "/pacing.mp4", connections)
        rates = [client.size / (client.last - client.first) for client in clients]
        first = median(client.first_byte_seconds for client in clients)
        print(
            f"origin, {connections} at once: {min(rates) / 1e6:.1f} to {max(rates) / 1e6:.1f} MB/s "
            f"each, first byte after {first * 1000:.1f} ms"
        )
        if max(abs(rate / wanted - 1) for rate in rates) > _PACING_TOLERANCE:
            msg = f"the origin does not give {wanted / 1e6:g} MB/s on each connection"
            raise BenchError(msg)


async def _alternate(
    readers: list[Reader], origin: SlowOrigin, options: argparse.Namespace
) -> dict[str, list[Sample]]:
    print(
        f"one client reads an object of {options.object_mib} MiB; {options.rounds} rounds a side, "
        f"alternating\nmedian (least to most) of the rounds\n",
        flush=True,
    )
    samples: dict[str, list[Sample]] = {reader.name: [] for reader in readers}
    for number in range(options.rounds):
        first = number % len(readers)
        for reader in (*readers[first:], *readers[:first]):
            path = f"{reader.prefix}/film-{number}.mp4"
            before = await origin.quiet()
            cpu = reader.program.cpu_seconds()
            (client,) = await asyncio.to_thread(ask_at_once, [reader.port], path, 1)
            cpu = reader.program.cpu_seconds() - cpu
            after = await origin.quiet()
            samples[reader.name].append(
                Sample(
                    client.size / client.seconds,
                    client.first_byte_seconds,
                    cpu / client.size * 1e9,
                    after["GET"] - before["GET"],
                    (after["bytes"] - before["bytes"]) / (options.object_mib * MIB),
                )
            )
    return samples


_HEADINGS = (
    *("server", "MB/s", f"times {PLAIN}", "goal", "first byte ms", "GETs"),
    *("origin sent, in objects", "CPU s/GB"),
)


def _row(name: str, samples: dict[str, list[Sample]]) -> tuple[str, ...]:
    taken, plain = samples[name], samples[PLAIN]
    times = [
        one.bytes_per_second / other.bytes_per_second
        for one, other in zip(taken, plain, strict=True)
    ]
    return (
        name,
        spread([sample.bytes_per_second / 1e6 for sample in taken], ".1f"),
        spread(times, ".2f") if name != PLAIN else "",
        reached(median(times), at_least=_GOAL_TIMES) if name == "rangeserver" else "",
        spread([sample.first_byte_seconds * 1000 for sample in taken], ".1f"),
        spread([sample.gets for sample in taken], ".0f"),
        spread([sample.objects for sample in taken], ".3f"),
        "" if name == PLAIN else spread([sample.cpu_per_gigabyte for sample in taken], ".2f"),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=ROUNDS, help="streams of each side")
    parser.add_argument("--object-mib", type=at_least_one, default=OBJECT_MIB)
    parser.add_argument("--first-byte-ms", type=float, default=FIRST_BYTE_MS, help="of the origin")
    parser.add_argument(
        "--megabytes-per-second",
        type=float,
        default=MEGABYTES_PER_SECOND,
        help="of each connection to the origin",
    )
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _options()
    run(lambda: benchmark(arguments))
