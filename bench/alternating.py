"""Runs that alternate between servers, so that what the machine does meanwhile meets them all.

The result is a ratio: of each round its own, then their median. What is compared is processor
time of the whole server, user and system, per request; the time on the clock belongs to the
machine's other work as much as to the server.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.command import BenchError, size_name
from bench.load import Load, Target, put_load
from bench.processes import Program


@dataclass(frozen=True, slots=True)
class Side:
    """A server under test."""

    name: str
    program: Program
    port: int
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """At most this many times the CPU of another side."""

    of: str
    times: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one side."""

    cpu_seconds: float
    requests: int
    body_bytes: int
    seconds: float

    @property
    def per_request(self) -> float:
        """Seconds of CPU per request."""
        return self.cpu_seconds / self.requests


async def compare(
    sides: Sequence[Side],
    targets: Sequence[Target],
    options: argparse.Namespace,
    *,
    references: Sequence[str],
    goals: Callable[[int], Mapping[str, Sequence[Goal]]],
) -> None:
    """Measure size after size of ranges, and print the table.

    ``options`` are those of :func:`bench.command.rounds_parser`; ``goals`` tells, for a size, what
    a side has to reach.
    """
    print(
        f"{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s "
        "a side, alternating; ratios are of CPU per request: median (least to most)\n",
        flush=True,
    )
    table: list[tuple[str, ...]] = []
    for size in options.sizes:
        print(f"measuring ranges of {size_name(size)}", flush=True)
        load = Load(targets, size, options.connections, options.seed, seconds=options.seconds)
        samples = await alternate(sides, load, options.rounds)
        table += _rows(size, samples, goals(size), references)
    print()
    print_table(_HEADINGS, table)


async def alternate(
    sides: Sequence[Side], load: Load, rounds: int
) -> Mapping[str, Sequence[Sample]]:
    """Put ``load`` on each side in turn, ``rounds`` times; each round begins with another side.

    A round more goes before and does not count: Node compiles what it runs often, and takes a
    second or two of work to halve what a request costs.
    """
    samples: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for side in sides:
        await _run(side, load)
    for number in range(rounds):
        first = number % len(sides)
        for side in (*sides[first:], *sides[:first]):
            varied = dataclasses.replace(load, seed=load.seed + number)
            sample = await _run(side, varied)
            if not sample.requests or sample.cpu_seconds <= 0:
                msg = f"{side.name} did too little to be measured; let runs take longer"
                raise BenchError(msg)
            samples[side.name].append(sample)
    return samples


async def _run(side: Side, load: Load) -> Sample:
    """One run; what it cost is known to hundredths of a second."""
    targets = [dataclasses.replace(t, path=side.prefix + t.path) for t in load.targets]
    before = side.program.cpu_seconds()
    try:
        result = await put_load(side.port, dataclasses.replace(load, targets=targets))
    except BenchError as error:
        msg = f"{side.name}: {error}"
        raise BenchError(msg) from error
    cpu = side.program.cpu_seconds() - before
    return Sample(cpu, result.requests, result.body_bytes, result.seconds)


def ratios(of: Sequence[Sample], to: Sequence[Sample]) -> list[float]:
    """CPU per request of one side to that of another, round by round."""
    return [one.per_request / other.per_request for one, other in zip(of, to, strict=True)]


_HEADINGS = ("range", "server", "CPU µs/request", "CPU s/GB", "requests/s", "times", "goal")


def _rows(
    size: int,
    samples: Mapping[str, Sequence[Sample]],
    goals: Mapping[str, Sequence[Goal]],
    references: Sequence[str],
) -> list[tuple[str, ...]]:
    """The table's rows for one size of ranges: a line a side, and one more for each ratio."""
    table: list[tuple[str, ...]] = []
    for name, taken in samples.items():
        costs = [sample.per_request * 1e6 for sample in taken]
        per_gb = median(sample.cpu_seconds / sample.body_bytes * 1e9 for sample in taken)
        rate = median(sample.requests / sample.seconds for sample in taken)
        first = (size_name(size), name, spread(costs, ".0f"), f"{per_gb:.2f}", f"{rate:.0f}")
        lines = [
            (
                _ratio(taken, samples[reference], reference),
                _verdict(goals, name, reference, samples),
            )
            for reference in references
            if name not in references
        ]
        table.append((*first, *(lines[0] if lines else ("", ""))))
        table += [("", "", "", "", "", *line) for line in lines[1:]]
    return table


def _ratio(taken: Sequence[Sample], others: Sequence[Sample], reference: str) -> str:
    return f"{spread(ratios(taken, others), '.2f')} x {reference}"


def _verdict(
    goals: Mapping[str, Sequence[Goal]],
    name: str,
    reference: str,
    samples: Mapping[str, Sequence[Sample]],
) -> str:
    for goal in goals.get(name, ()):
        if goal.of == reference:
            return reached(median(ratios(samples[name], samples[reference])), at_most=goal.times)
    return ""


def reached(value: float, *, at_most: float | None = None, at_least: float | None = None) -> str:
    """The goal, and whether ``value`` reached it."""
    if at_most is not None:
        return f"<= {at_most:g}: {'reached' if value <= at_most else 'missed'}"
    assert at_least is not None
    return f">= {at_least:g}: {'reached' if value >= at_least else 'missed'}"


def spread(values: Sequence[float], form: str) -> str:
    """The median, and between which values it lies."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def print_table(headings: Sequence[str], table: Sequence[Sequence[str]]) -> None:
    """Print columns; a median is followed by the least and the most."""
    widths = [
        max(len(row[column]) for row in (headings, *table)) for column in range(len(headings))
    ]
    for row in (headings, ["-" * width for width in widths], *table):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip(), flush=True)
