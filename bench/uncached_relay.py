"""What relaying a range costs, against nginx: ``python -m bench.uncached_relay``.

All sides relay random ranges, aligned to nothing, from one origin. nginx runs as one worker with
its defaults and kept connections, and once more with 16 buffers of 64 KiB.
"""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack

from bench.alternating import HEADINGS, Goal, alternate, print_table, rows
from bench.command import MIB, rounds_parser, run, size_name
from bench.load import Load
from bench.machine import print_machine, print_nginx
from bench.servers import (
    NGINX,
    NGINX_TUNED,
    make_objects,
    nginx_origin,
    nginx_relay,
    rangeserver,
    signing_variants,
    work_directory,
)

ROUNDS = 5
SECONDS = 3.0


def goals(size: int) -> list[Goal]:
    """What rangeserver has to reach when it signs once for each object."""
    found = [Goal(NGINX, 0.8 if size >= MIB else 3.5)]
    return [*found, Goal(NGINX_TUNED, 2.0)] if size >= 8 * MIB else found


async def benchmark(options: argparse.Namespace) -> None:
    """Start all sides, measure size after size, print as it goes."""
    with work_directory() as directory:
        print_machine()
        print_nginx()
        print(
            f"{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s "
            f"a side, alternating; ratios are of CPU per request: median (least to most)\n",
            flush=True,
        )
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            targets = make_objects(directory / "objects")
            origin = await enter(nginx_origin(directory, directory / "objects"))
            variants = signing_variants()
            own = [
                await enter(rangeserver(name, directory, origin, settings))
                for name, settings in variants.items()
            ]
            relays = [
                await enter(nginx_relay(name, directory, origin)) for name in (NGINX, NGINX_TUNED)
            ]
            sides = [*(server.side for server in own), *relays]
            judged = next(iter(variants))
            table: list[tuple[str, ...]] = []
            for size in options.sizes:
                load = Load(targets, size, options.connections, options.seed, None, options.seconds)
                print(f"measuring ranges of {size_name(size)}", flush=True)
                samples = await alternate(sides, load, options.rounds)
                table += rows(size, samples, {judged: goals(size)}, (NGINX, NGINX_TUNED))
            print()
            print_table(HEADINGS, table)


if __name__ == "__main__":
    arguments = rounds_parser(__doc__.splitlines()[0], ROUNDS, SECONDS).parse_args()
    run(lambda: benchmark(arguments))
