"""What a range from the cache costs, against nginx: ``python -m bench.cached_ranges``.

nginx is one worker with slice (1 MiB) and proxy_cache, the lock on. Random ranges, aligned to
nothing, of objects that both sides have in their caches.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import aiohttp

from bench.alternating import Goal, Side, compare
from bench.command import MIB, BenchError, rounds_parser, run
from bench.load import Target
from bench.machine import print_machine, print_nginx
from bench.servers import (
    make_objects,
    nginx_cache,
    nginx_origin,
    rangeserver,
    work_directory,
)

ROUNDS = 7
SECONDS = 2.0

NGINX_CACHE = "nginx cache"
OWN = "rangeserver"


def goals(size: int) -> list[Goal]:
    """What rangeserver has to reach, with its access log and metrics on."""
    return [Goal(NGINX_CACHE, 1.0 if size >= MIB else 2.0)]


async def fill(side: Side, targets: Sequence[Target]) -> None:
    """Read every object once, so that all of it is in the cache."""
    async with aiohttp.ClientSession() as session:
        for target in targets:
            url = f"http://127.0.0.1:{side.port}{side.prefix}{target.path}"
            async with session.get(url) as response:
                received = 0
                async for part in response.content.iter_chunked(MIB):
                    received += len(part)
            if received != target.size:
                msg = f"{side.name} sent {received} bytes of {target.size}"
                raise BenchError(msg)


async def benchmark(options: argparse.Namespace) -> None:
    """Start both sides, fill their caches, measure size after size, print as it goes."""
    with work_directory() as directory:
        print_machine()
        print_nginx()
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            targets = make_objects(directory / "objects")
            origin = await enter(nginx_origin(directory, directory / "objects"))
            settings = {"RANGESERVER_CACHE__DIRECTORY": str(directory / "own-cache")}
            own = await enter(rangeserver(OWN, directory, origin, settings))
            nginx = await enter(nginx_cache(NGINX_CACHE, directory, origin))
            sides = [own.side, nginx]
            for side in sides:
                await fill(side, targets)
            await asyncio.sleep(0.5)
            await compare(
                *(sides, targets, options),
                references=(NGINX_CACHE,),
                goals=lambda size: {OWN: goals(size)},
            )


if __name__ == "__main__":
    arguments = rounds_parser(__doc__.splitlines()[0], ROUNDS, SECONDS).parse_args()
    run(lambda: benchmark(arguments))
