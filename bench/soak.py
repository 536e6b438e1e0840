"""A minute of players at an origin that misbehaves, and what must be true at the end of it.

Random ranges are asked for by many clients at once, while the origin cuts bodies, stalls, asks
for peace and replaces objects. Every byte is compared with the version that its response names.
Run: ``python -m bench.soak [--cache] [--requests N] [--seconds S] [--clients C] [--seed X]``; it
fails if anything promised was not kept. With ``--cache`` the bodies go through a cache too small
for the objects, so that what is read is removed and fetched again all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import uvloop

from bench.memory import resident
from bench.servers import work_directory
from bench.soak_content import KEYS, OBJECT_BYTES, content_of
from bench.soak_processes import Server, origin, serving
from tests.exposition import Scrape
from tests.support import RawClient

MAX_RANGE_BYTES = 512 << 10
SAMPLE_SECONDS = 0.5
SETTLED_SECONDS = 5.0
ALLOWED_GROWTH = 1.10
WARM_UP_SHARE = 0.1
"""Of the time: pools fill, and the allocator finds out what is needed."""


@dataclass(slots=True)
class Findings:
    """What clients got, how long it took, what was violated, how large the server was."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    received: int = 0


async def one_request(client: RawClient, chance: random.Random, findings: Findings) -> bool:
    """Ask for one random range; whether the connection can be used on."""
    key = chance.choice(KEYS)
    length = int(2 ** chance.uniform(0, MAX_RANGE_BYTES.bit_length() - 1))
    start = chance.randrange(OBJECT_BYTES - length)
    asked = time.monotonic()
    response = await client.get(f"/{key}", Range=f"bytes={start}-{start + length - 1}")
    findings.seconds.append(time.monotonic() - asked)
    what = f"{key} bytes {start}+{length}, request {response.headers.get('x-request-id')}"
    if response.status != 206:
        code = json.loads(response.body)["error"]["code"]
        findings.outcomes[f"{response.status} {code}"] += 1
        if response.status not in {502, 503, 504}:
            findings.violations.append(f"{what}: answered {response.status}")
        return response.complete
    findings.received += len(response.body)
    findings.outcomes["complete" if response.complete else "aborted"] += 1
    wanted = content_of(response.headers["etag"], start, start + len(response.body) or 1)
    if response.body and response.body != wanted:
        findings.violations.append(f"{what}: wrong bytes for {response.headers['etag']}")
    if not response.complete and not client.was_reset:
        findings.violations.append(f"{what}: a short body and a clean end")
    return response.complete


async def player(
    port: int, times: int, pause: float, chance: random.Random, findings: Findings
) -> None:
    """One client: so many requests, one each ``pause`` seconds if it can be."""
    begin = time.monotonic() + chance.uniform(0, pause)
    client = None
    for number in range(times):
        await asyncio.sleep(begin + number * pause - time.monotonic())
        client = client or await RawClient.connect(port)
        if not await one_request(client, chance, findings):
            client.close()
            client = None
    if client is not None:
        client.close()


async def watch_memory(pid: int, findings: Findings) -> None:
    """Note the server's size until cancelled."""
    while True:
        findings.resident.append(resident(pid))
        await asyncio.sleep(SAMPLE_SECONDS)


def judge_memory(findings: Findings) -> str:
    """Compare the last third of the time with the first."""
    sizes = findings.resident[int(len(findings.resident) * WARM_UP_SHARE) :]
    third = max(len(sizes) // 3, 1)
    first, last = statistics.median(sizes[:third]), statistics.median(sizes[-third:])
    if last > first * ALLOWED_GROWTH:
        findings.violations.append(f"memory grew from {first:.0f} to {last:.0f} bytes")
    tenths = (sizes[len(sizes) * n // 10 : len(sizes) * (n + 1) // 10] for n in range(10))
    course = ", ".join(f"{statistics.median(part) / 1e6:.1f}" for part in tenths if part)
    return (
        f"first third {first / 1e6:.1f} MB, last third {last / 1e6:.1f} MB"
        f" (by tenths, after the first tenth of the time: {course})"
    )


async def settle(server: Server, findings: Findings) -> Scrape:
    """The last metrics; all that is in use must come back to nothing."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        now = await server.metrics()
        held = {
            "active streams": now("rangeserver_active_streams"),
            "origin connections in use": now("rangeserver_origin_connections", state="in_use"),
            "waiting for one": now("rangeserver_origin_connections", state="waiting"),
            "bytes on their way": now("rangeserver_buffered_bytes"),
        }
        if not any(held.values()):
            break
        if time.monotonic() > deadline:
            findings.violations.append(f"held at the end: {held}")
            break
        await asyncio.sleep(0.1)
    if dropped := now("rangeserver_log_lines_dropped_total"):
        findings.violations.append(f"{dropped:.0f} log lines dropped")
    return now


def show(findings: Findings, metrics: Scrape, lines: Counter[str], seconds: float) -> None:
    """Print what happened."""
    times = sorted(findings.seconds)
    at = {share: times[int(share * (len(times) - 1))] * 1000 for share in (0.5, 0.99, 1.0)}
    asked = sum(findings.outcomes.values())
    print(f"clients:   {asked} requests in {seconds:.1f} s, {findings.received / 1e6:.0f} MB")
    print("outcomes: ", ", ".join(f"{n} {what}" for what, n in findings.outcomes.most_common()))
    print("log:      ", ", ".join(f"{count} {what}" for what, count in lines.most_common()))
    print("times:     " + ", ".join(f"p{share * 100:g} {ms:.1f} ms" for share, ms in at.items()))
    for name in (
        *("origin_requests_total", "origin_resumes_total", "origin_retries_total"),
        *("origin_hedges_total", "object_facts_total", "process_cpu_seconds_total"),
        *("cache_hits_total", "cache_misses_total", "cache_bypassed_total"),
        *("cache_evictions_total", "cache_errors_total", "cache_stale_answers_total"),
        *("cache_bytes", "origin_bytes_total"),
    ):
        full = name if name.startswith("process") else f"rangeserver_{name}"
        series = {", ".join(v for _, v in sorted(k)): n for k, n in metrics.named(full).items()}
        print(f"  {name}: " + ", ".join(f"{labels} {n:g}".strip() for labels, n in series.items()))


def judge_cache(metrics: Scrape, findings: Findings) -> None:
    """It must have been used, have been too small, and have come to no harm."""
    for name in ("hits", "misses", "evictions"):
        if not metrics(f"rangeserver_cache_{name}_total"):
            findings.violations.append(f"the cache had no {name}")
    for kind in ("read", "write", "damaged", "foreign"):
        if count := metrics("rangeserver_cache_errors_total", kind=kind):
            findings.violations.append(f"{count:.0f} errors of the cache: {kind}")


async def main(options: argparse.Namespace) -> int:
    """Run it; the exit code."""
    findings = Findings()
    pause = options.seconds * options.clients / options.requests
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(work_directory())
        port = await stack.enter_async_context(origin(options.seed, findings.violations))
        cache = directory / "cache" if options.cache else None
        server = await stack.enter_async_context(serving(port, findings.violations, cache))
        memory = asyncio.create_task(watch_memory(server.process.pid, findings))
        began = time.monotonic()
        async with asyncio.TaskGroup() as players:
            for number in range(options.clients):
                own = options.requests // options.clients
                own += number < options.requests % options.clients
                chance = random.Random(options.seed * 1_000_003 + number)
                players.create_task(player(server.port, own, pause, chance, findings))
        seconds = time.monotonic() - began
        memory.cancel()
        metrics = await settle(server, findings)
    if options.cache:
        judge_cache(metrics, findings)
    show(findings, metrics, server.lines, seconds)
    print("memory:   ", judge_memory(findings))
    if (logged := sum(server.lines.values())) != options.requests:
        findings.violations.append(f"{logged} access lines for {options.requests} requests")
    if findings.outcomes["complete"] < options.requests * 0.9:
        findings.violations.append("fewer than nine in ten responses were completed")
    for violation in findings.violations[:20]:
        print("VIOLATED: ", violation)
    print("violations:", len(findings.violations))
    return 1 if findings.violations else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--cache", action="store_true", help="with a small cache")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(uvloop.run(main(_options())))
