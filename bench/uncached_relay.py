"""What relaying a range costs, against nginx: ``python -m bench.uncached_relay``.

All sides relay random ranges, aligned to nothing, from one origin. nginx runs as one worker with
its defaults and kept connections, and once more with 16 buffers of 64 KiB. rangeserver's cache is
off: :mod:`bench.cached_ranges` is about that.
"""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack

from bench.alternating import Goal, compare
from bench.command import MIB, rounds_parser, run
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
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            targets = make_objects(directory / "objects")
            origin = await enter(nginx_origin(directory, directory / "objects"))
            variants = signing_variants()
            own = [
                await enter(rangeserver(name, directory, origin, settings, cache=None))
                for name, settings in variants.items()
            ]
            relays = [
                await enter(nginx_relay(name, directory, origin)) for name in (NGINX, NGINX_TUNED)
            ]
            sides = [*(server.side for server in own), *relays]
            judged = next(iter(variants))
            await compare(
                *(sides, targets, options),
                references=(NGINX, NGINX_TUNED),
                goals=lambda size: {judged: goals(size)},
            )


if __name__ == "__main__":
    arguments = rounds_parser(__doc__.splitlines()[0], ROUNDS, SECONDS).parse_args()
    run(lambda: benchmark(arguments))
