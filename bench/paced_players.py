"""Many paced players on one process: ``python -m bench.paced_players``.

2,000 players take 0.5 Mbit/s each, from objects that are in the cache, and from ones that nobody
asked for before; the origin of both is 30 ms away. None may stall, which is to have its buffer run
dry once it has begun to play. How late the server's event loop was in the meantime is in its
metrics. What it costs in processor time is compared with nginx: one worker with slice (1 MiB) and
proxy_cache.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.alternating import Side, print_table, reached, spread
from bench.command import KIB, MIB, at_least_one, run
from bench.counting import slow_origin, text_of
from bench.lag import Histogram, at_most, lag_histogram, measurements, since
from bench.load import Target, percentile
from bench.machine import print_machine, print_nginx
from bench.players import Audience, Players, Watched
from bench.servers import nginx_cache, rangeserver, read_whole, work_directory

ROUNDS = 3
SECONDS = 30.0
RAMP_SECONDS = 10.0
PLAYERS = 2000
MEGABITS_PER_SECOND = 0.5
PIECE_KIB = 256
FILMS = 16
FILM_MIB = 64
FIRST_BYTE_MS = 30.0

OWN = "rangeserver"
NGINX = "nginx cache"
CACHED = "cached"
COLD = "cold"
KINDS = (CACHED, COLD)

GOAL_LAG_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Sample:
    """One audience: CPU while all were there, and the server's lag since the first came."""

    cpu_seconds: float
    seconds: float
    watched: Watched
    lag: Histogram

    @property
    def share(self) -> float:
        """Of one core."""
        return self.cpu_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Server:
    """A side, and where its metrics are if it has any."""

    side: Side
    metrics_url: str | None = None

    async def lag(self) -> Histogram:
        """The lag measured so far; nothing for a server that does not tell."""
        return lag_histogram(await text_of(self.metrics_url)) if self.metrics_url else {}


async def benchmark(options: argparse.Namespace) -> None:
    """Start both servers, send them audiences in turns, print the table."""
    with work_directory() as directory:
        print_machine()
        print_nginx(origin=False)
        asks = "one request each" if options.open_ended else f"pieces of {PIECE_KIB} KiB"
        print(
            f"{options.players} players of {options.megabits_per_second:g} Mbit/s, {asks}; they "
            f"come within {options.ramp:g} s and stay for {options.seconds:g} s; {options.rounds} "
            "rounds a side, alternating\nmedian (least to most) of the rounds\n",
            flush=True,
        )
        async with AsyncExitStack() as stack:
            servers = await _start(stack, directory, options.players)
            table = []
            for kind in options.kinds:
                samples = await _alternate(servers, options, kind)
                table += [_row(kind, name, samples) for name in samples]
            print_table(_HEADINGS, table)


async def _start(stack: AsyncExitStack, directory: Path, players: int) -> list[Server]:
    enter = stack.enter_async_context
    origin = await enter(
        slow_origin(directory, "origin", usual_ms=FIRST_BYTE_MS, object_mib=FILM_MIB)
    )
    settings = {"RANGESERVER_SERVER__MAX_CONNECTIONS": str(players + 16)}
    cache = directory / "own-cache"
    own = await enter(rangeserver(OWN, directory, origin.port, settings, cache=cache))
    nginx = await enter(nginx_cache(NGINX, directory, origin.port))
    return [Server(own.side, own.metrics_url), Server(nginx)]


async def _alternate(
    servers: Sequence[Server], options: argparse.Namespace, kind: str
) -> dict[str, list[Sample]]:
    print(f"measuring with {kind} objects", flush=True)
    samples: dict[str, list[Sample]] = {server.side.name: [] for server in servers}
    if kind == CACHED:
        for server in servers:
            await read_whole(server.side, _films(kind, 0))
    for number in range(options.rounds):
        first = number % len(servers)
        for server in (*servers[first:], *servers[:first]):
            films = _films(kind, number if kind == COLD else 0)
            sample = await _run(server, films, options, options.seed + number)
            samples[server.side.name].append(sample)
    return samples


def _films(kind: str, number: int) -> list[Target]:
    return [Target(f"/{kind}-{number}-{film}.mp4", FILM_MIB * MIB) for film in range(FILMS)]


async def _run(
    server: Server, films: Sequence[Target], options: argparse.Namespace, seed: int
) -> Sample:
    side = server.side
    audience = Audience(
        films=[dataclasses.replace(film, path=side.prefix + film.path) for film in films],
        players=options.players,
        bytes_per_second=options.megabits_per_second * 1e6 / 8,
        piece_bytes=PIECE_KIB * KIB,
        ramp_seconds=options.ramp,
        seed=seed,
        open_ended=options.open_ended,
    )
    players = Players(side.port, audience)
    loop = asyncio.get_running_loop()
    lag = await server.lag()
    try:
        await players.come()
        began, cpu = loop.time(), side.program.cpu_seconds()
        await asyncio.sleep(options.seconds)
        cpu, seconds = side.program.cpu_seconds() - cpu, loop.time() - began
    finally:
        watched = players.leave()
    return Sample(cpu, seconds, watched, since(lag, await server.lag()))


_HEADINGS = (
    *("objects", "server", "CPU % of a core", f"times {NGINX}", "players that stalled"),
    *("began after ms, p50", "p99", "loop lag ms <=, p50", "p99", "max", "goal"),
)


def _row(kind: str, name: str, samples: dict[str, list[Sample]]) -> tuple[str, ...]:
    taken, nginx = samples[name], samples[NGINX]
    times = [one.share / other.share for one, other in zip(taken, nginx, strict=True)]
    watched = [sample.watched for sample in taken]
    stalled = sum(seen.stalled + seen.never_began for seen in watched)
    starts = [[seconds * 1000 for seconds in seen.start_seconds] for seen in watched]
    return (
        *(kind, name, spread([sample.share * 100 for sample in taken], ".1f")),
        spread(times, ".2f") if name != NGINX else "",
        f"{stalled} of {sum(seen.players for seen in watched)}: {reached(stalled, at_most=0)}",
        *(spread([percentile(each, p) for each in starts], ".0f") for p in (50, 99)),
        *_lag_cells([sample.lag for sample in taken]),
    )


def _lag_cells(lags: Sequence[Histogram]) -> tuple[str, ...]:
    if not all(measurements(lag) for lag in lags):
        return ("", "", "", "")
    by_percent = {p: [at_most(lag, p) for lag in lags] for p in (50, 99, 100)}
    shown = [f"{median(values) * 1000:g} ({_range(values)})" for values in by_percent.values()]
    return (*shown, f"p99 {reached(median(by_percent[99]), at_most=GOAL_LAG_SECONDS)}")


def _range(values: Sequence[float]) -> str:
    return f"{min(values) * 1000:g} to {max(values) * 1000:g}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=ROUNDS, help="audiences of a side")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that all are there")
    parser.add_argument("--ramp", type=float, default=RAMP_SECONDS, help="seconds until they are")
    parser.add_argument("--players", type=at_least_one, default=PLAYERS)
    parser.add_argument("--megabits-per-second", type=float, default=MEGABITS_PER_SECOND)
    parser.add_argument(
        "--open-ended",
        action="store_true",
        help="players ask once for all the rest, and stop reading while they have enough",
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of objects")
    parser.add_argument("--seed", type=int, default=1, help="of films, and places in them")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _options()
    run(lambda: benchmark(arguments))
