"""What a range from the cache costs, against nginx: ``python -m bench.cached_ranges``.

nginx is one worker with slice (1 MiB) and proxy_cache, the lock on. Random ranges, aligned to
nothing, of objects that both sides have in their caches.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack

from bench.alternating import Goal, compare
from bench.command import MIB, rounds_parser, run
from bench.machine import print_machine, print_nginx
from bench.servers import (
    make_objects,
    nginx_cache,
    nginx_origin,
    rangeserver,
    read_whole,
    work_directory,
)

ROUNDS = 7
SECONDS = 2.0

NGINX_CACHE = "nginx cache"
OWN = "rangeserver"


def goals(size: int) -> list[Goal]:
    """What rangeserver has to reach, with its access log and metrics on."""
    return [Goal(NGINX_CACHE, 1.0 if size >= MIB else 2.0)]


async def benchmark(options: argparse.Namespace) -> None:
    """Start both sides, fill their caches, measure size after size, print as it goes."""
    with work_directory() as directory:
        print_machine()
        print_nginx()
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            targets = make_objects(directory / "objects")
            origin = await enter(nginx_origin(directory, directory / "objects"))
            own = await enter(rangeserver(OWN, directory, origin, cache=directory / "own-cache"))
            nginx = await enter(nginx_cache(NGINX_CACHE, directory, origin))
            sides = [own.side, nginx]
            for side in sides:
                await read_whole(side, targets)
            await asyncio.sleep(0.5)
            await compare(
                *(sides, targets, options),
                references=(NGINX_CACHE,),
                goals=lambda size: {OWN: goals(size)},
            )


if __name__ == "__main__":
    arguments = rounds_parser(__doc__.splitlines()[0], ROUNDS, SECONDS).parse_args()
    run(lambda: benchmark(arguments))
