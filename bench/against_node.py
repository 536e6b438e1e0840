"""What a range costs, against a program on Node: ``python -m bench.against_node``.

The peer, on express and aws-sdk, asks for the object's head and pipes a ranged getObject into the
response, as such programs do. So that it is a fair peer, its connections to the origin are kept
and not scarce. rangeserver is measured as a plain relay, and with all objects in its cache.
"""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack

from bench.alternating import Goal, compare
from bench.command import rounds_parser, run
from bench.machine import print_machine, print_nginx, print_node
from bench.servers import (
    make_objects,
    nginx_origin,
    node_peer,
    rangeserver,
    read_whole,
    signing_variants,
    work_directory,
)

ROUNDS = 5
SECONDS = 3.0
NODE = "node"
CACHED = "rangeserver cached"
UNCACHED_GOAL = Goal(NODE, 0.25)
CACHED_GOAL = Goal(NODE, 0.07)


async def benchmark(options: argparse.Namespace) -> None:
    """Start both sides, measure size after size, print as it goes."""
    with work_directory() as directory:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            targets = make_objects(directory / "objects")
            origin = await enter(nginx_origin(directory, directory / "objects"))
            peer = await enter(node_peer(directory, origin))
            print_machine()
            print_nginx()
            print_node()
            variants = signing_variants()
            own = [
                await enter(rangeserver(name, directory, origin, settings, cache=None))
                for name, settings in variants.items()
            ]
            own.append(await enter(rangeserver(CACHED, directory, origin, cache=directory / "own")))
            await read_whole(own[-1].side, targets)
            sides = [*(server.side for server in own), peer]
            judged = {next(iter(variants)): [UNCACHED_GOAL], CACHED: [CACHED_GOAL]}
            await compare(*(sides, targets, options), references=(NODE,), goals=lambda _: judged)


if __name__ == "__main__":
    arguments = rounds_parser(__doc__.splitlines()[0], ROUNDS, SECONDS).parse_args()
    run(lambda: benchmark(arguments))
