"""200 clients ask for one cold object in the same moment: ``python -m bench.herd``.

The origin's first byte comes 30 ms late. What counts is when the clients' first byte comes, and
how often the origin had to send the object, as it counts itself. nginx is one worker with slice
(1 MiB) and proxy_cache, with the lock and without. Every round asks for objects that were never
asked for.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.alternating import print_table, reached, spread
from bench.at_once import ask_at_once
from bench.command import MIB, at_least_one, run
from bench.counting import SlowOrigin, slow_origin
from bench.load import percentile
from bench.machine import print_machine, print_nginx
from bench.servers import nginx_cache, rangeserver, work_directory

ROUNDS = 5
CLIENTS = 200
OBJECT_MIB = 16
FIRST_BYTE_MS = 30.0
PROCESSES = (1, 2, 4)

GOAL_FIRST_BYTES = 2.5
GOAL_OBJECTS = 1.02


@dataclass(frozen=True, slots=True)
class Servers:
    """One side: a server, or several that share a cache."""

    name: str
    ports: Sequence[int]
    prefix: str = ""
    judged: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One herd, and the single client before it."""

    alone_ms: float
    first_byte_ms: Sequence[float]
    seconds: float
    objects: float
    """Bytes that the origin sent, in objects."""


async def benchmark(options: argparse.Namespace) -> None:
    """Start all sides, send herds to them in turns, print the table."""
    with work_directory() as directory:
        print_machine()
        print_nginx(origin=False)
        print(
            f"{options.clients} clients ask at once for an object of {options.object_mib} MiB; "
            f"{options.rounds} rounds a side, alternating; first byte of the origin after "
            f"{options.first_byte_ms:g} ms\nmedian (least to most) of the rounds\n",
            flush=True,
        )
        async with AsyncExitStack() as stack:
            origin = await stack.enter_async_context(
                slow_origin(
                    *(directory, "origin"),
                    usual_ms=options.first_byte_ms,
                    object_mib=options.object_mib,
                )
            )
            sides = await _start(stack, directory, origin.port)
            samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
            for side in sides:
                await _run(side, origin, options, f"{side.name}-warming-up")
            for number in range(options.rounds):
                first = number % len(sides)
                for side in (*sides[first:], *sides[:first]):
                    sample = await _run(side, origin, options, f"{side.name}-{number}")
                    samples[side.name].append(sample)
            rows = [_row(side, samples[side.name], options.first_byte_ms) for side in sides]
            print_table(_HEADINGS, rows)


async def _start(stack: AsyncExitStack, directory: Path, origin_port: int) -> list[Servers]:
    enter = stack.enter_async_context
    sides = []
    for processes in PROCESSES:
        name = f"rangeserver x {processes}"
        cache = directory / f"cache-of-{processes}"
        own = [
            await enter(rangeserver(f"{name}, {n + 1}", directory, origin_port, cache=cache))
            for n in range(processes)
        ]
        sides.append(Servers(name, [server.side.port for server in own], judged=True))
    for name, lock in (("nginx, lock on", True), ("nginx, lock off", False)):
        side = await enter(nginx_cache(name, directory, origin_port, lock=lock))
        sides.append(Servers(name, [side.port], side.prefix))
    return sides


async def _run(
    side: Servers, origin: SlowOrigin, options: argparse.Namespace, object_name: str
) -> Sample:
    path = f"{side.prefix}/{object_name.replace(' ', '-').replace(',', '')}"
    alone = await asyncio.to_thread(ask_at_once, side.ports, f"{path}-alone.mp4", 1)
    before = await origin.quiet()
    herd = await asyncio.to_thread(ask_at_once, side.ports, f"{path}.mp4", options.clients)
    after = await origin.quiet()
    return Sample(
        alone[0].first_byte_seconds * 1000,
        [client.first_byte_seconds * 1000 for client in herd],
        max(client.last for client in herd) - min(client.asked for client in herd),
        (after["bytes"] - before["bytes"]) / (options.object_mib * MIB),
    )


_HEADINGS = (
    *("server", "alone ms", "herd p50 ms", "p99 ms", "p99 / origin's", "goal"),
    *("origin sent, in objects", "goal", "all served s"),
)


def _row(side: Servers, taken: Sequence[Sample], origin_ms: float) -> tuple[str, ...]:
    worst = [percentile(sample.first_byte_ms, 99) for sample in taken]
    times = [ms / origin_ms for ms in worst]
    objects = [sample.objects for sample in taken]
    goals = ("", "")
    if side.judged:
        goals = (
            reached(median(times), at_most=GOAL_FIRST_BYTES),
            reached(median(objects), at_most=GOAL_OBJECTS),
        )
    return (
        side.name,
        spread([sample.alone_ms for sample in taken], ".1f"),
        spread([percentile(sample.first_byte_ms, 50) for sample in taken], ".1f"),
        spread(worst, ".1f"),
        spread(times, ".2f"),
        goals[0],
        spread(objects, ".3f"),
        goals[1],
        spread([sample.seconds for sample in taken], ".2f"),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=ROUNDS, help="herds for each side")
    parser.add_argument("--clients", type=at_least_one, default=CLIENTS)
    parser.add_argument("--object-mib", type=at_least_one, default=OBJECT_MIB)
    parser.add_argument("--first-byte-ms", type=float, default=FIRST_BYTE_MS, help="of the origin")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _options()
    run(lambda: benchmark(arguments))
