"""What hedging does to the slowest answers, at what cost: ``python -m bench.hedging``.

Each side has an origin of its own, which answers 1 % of its requests a second late. The time to
the first byte is what the client sees; what the origin was asked, the origin has counted. The
cache is off, so that every request is one to the origin.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.alternating import Side, print_table, spread
from bench.command import CONNECTIONS, KIB, at_least_one, run
from bench.counting import SlowOrigin, slow_origin, text_of
from bench.load import Load, Target, percentile, put_load
from bench.machine import print_machine
from bench.servers import knows, rangeserver, work_directory
from bench.slow_origin import OBJECT_BYTES

ROUNDS = 3
REQUESTS = 20_000
RANGE_BYTES = 64 * KIB
OBJECTS = 4
"""Few, so that what is known of an object serves many requests."""

HEDGE_PERCENTS = (2.0, 0.0)
PERCENTILES = (50.0, 99.0, 99.9)

_HEDGES = re.compile(r'^rangeserver_origin_hedges_total\{result="(\w+)"\} ([0-9.e+]+)$', re.M)


@dataclass(frozen=True, slots=True)
class Hedged:
    """A rangeserver, where its metrics are, and its origin, which counts."""

    side: Side
    metrics_url: str
    origin: SlowOrigin


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: times in milliseconds, and requests as their receivers counted them."""

    first_byte_ms: Mapping[float, float]
    requests: int
    cpu_seconds: float
    origin: Mapping[str, int]
    hedges: Mapping[str, int]

    @property
    def extra_percent(self) -> float:
        """GETs to the origin beyond one per request of a client."""
        return (self.origin["GET"] / self.requests - 1) * 100


async def benchmark(options: argparse.Namespace) -> None:
    """Start a server and an origin for each side, measure in turns, print the table."""
    with work_directory() as directory:
        print_machine()
        print(
            f"{options.connections} connections, each pausing {options.pause_ms:g} ms after an "
            f"answer; {options.rounds} rounds of {options.requests} requests a side, alternating; "
            f"ranges of {RANGE_BYTES // KIB} KiB of {OBJECTS} "
            f"objects; origin: {options.late_percent:g} % of answers after {options.late_ms:g} ms, "
            f"the others after {options.usual_ms:g} ms\nmedian (least to most) of the rounds\n",
            flush=True,
        )
        async with AsyncExitStack() as stack:
            sides = await _start(stack, directory, options)
            samples: dict[str, list[Sample]] = {hedged.side.name: [] for hedged in sides}
            for hedged in sides:
                await _run(hedged, options, options.connections * 4, seed=0)
            for number in range(options.rounds):
                first = number % len(sides)
                for hedged in (*sides[first:], *sides[:first]):
                    sample = await _run(hedged, options, options.requests, options.seed + number)
                    samples[hedged.side.name].append(sample)
            print_table(_HEADINGS, [_row(name, taken) for name, taken in samples.items()])


async def _start(
    stack: AsyncExitStack, directory: Path, options: argparse.Namespace
) -> list[Hedged]:
    variants: Mapping[str, Mapping[str, str]] = {"no hedging known": {}}
    if knows("hedge_percent"):
        variants = {
            f"hedge_percent {percent:g}": {"RANGESERVER_ORIGIN__HEDGE_PERCENT": str(percent)}
            for percent in HEDGE_PERCENTS
        }
    else:
        print("this rangeserver has no hedge_percent; the case without is shown\n")
    sides = []
    for name, settings in variants.items():
        origin = await stack.enter_async_context(
            slow_origin(
                *(directory, f"origin of {name}"),
                usual_ms=options.usual_ms,
                late_ms=options.late_ms,
                late_percent=options.late_percent,
                seed=options.seed,
            )
        )
        own = await stack.enter_async_context(
            rangeserver(name, directory, origin.port, settings, cache=None)
        )
        sides.append(Hedged(own.side, own.metrics_url, origin))
    return sides


async def _run(hedged: Hedged, options: argparse.Namespace, requests: int, seed: int) -> Sample:
    targets = [Target(f"/film-{number}.mp4", OBJECT_BYTES) for number in range(OBJECTS)]
    load = Load(
        targets=targets,
        range_bytes=RANGE_BYTES,
        connections=options.connections,
        seed=seed,
        requests=requests,
        pause_seconds=options.pause_ms / 1000,
    )
    counts, hedges = await hedged.origin.counts(), await _hedges(hedged)
    cpu = hedged.side.program.cpu_seconds()
    result = await put_load(hedged.side.port, load)
    cpu = hedged.side.program.cpu_seconds() - cpu
    counts_after, hedges_after = await hedged.origin.counts(), await _hedges(hedged)
    return Sample(
        {p: percentile(result.first_bytes, p) * 1000 for p in PERCENTILES},
        result.requests,
        cpu,
        {name: counts_after[name] - count for name, count in counts.items()},
        {name: count - hedges.get(name, 0) for name, count in hedges_after.items()},
    )


async def _hedges(hedged: Hedged) -> dict[str, int]:
    """What became of hedges so far, as the server tells in its metrics."""
    found = _HEDGES.findall(await text_of(hedged.metrics_url))
    return {result: int(float(count)) for result, count in found}


_HEADINGS = (
    "server",
    *(f"p{p:g} ms" for p in PERCENTILES),
    "extra GETs %",
    "HEADs %",
    "late %",
    "hedges won/lost/suppressed",
    "CPU µs/request",
)


def _row(name: str, taken: Sequence[Sample]) -> tuple[str, ...]:
    hedges = {result for sample in taken for result in sample.hedges}
    totals = {result: sum(s.hedges.get(result, 0) for s in taken) for result in hedges}
    shown = "/".join(str(totals.get(result, 0)) for result in ("won", "lost", "suppressed"))
    return (
        name,
        *(spread([sample.first_byte_ms[p] for sample in taken], ".1f") for p in PERCENTILES),
        spread([sample.extra_percent for sample in taken], ".2f"),
        spread([sample.origin["HEAD"] / sample.requests * 100 for sample in taken], ".2f"),
        spread([_late_percent(sample) for sample in taken], ".2f"),
        shown if totals else "not counted",
        spread([sample.cpu_seconds / sample.requests * 1e6 for sample in taken], ".0f"),
    )


def _late_percent(sample: Sample) -> float:
    return sample.origin["late"] / (sample.origin["GET"] + sample.origin["HEAD"]) * 100


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=ROUNDS)
    parser.add_argument("--requests", type=at_least_one, default=REQUESTS, help="of one run")
    parser.add_argument("--connections", type=at_least_one, default=CONNECTIONS)
    parser.add_argument("--pause-ms", type=float, default=0.0, help="of a client between requests")
    parser.add_argument("--usual-ms", type=float, default=5.0)
    parser.add_argument("--late-ms", type=float, default=1000.0)
    parser.add_argument("--late-percent", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, help="of ranges, and of what is late")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _options()
    run(lambda: benchmark(arguments))
