"""The slow origin as benchmarks run it, and what it counted meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.command import BenchError
from bench.processes import Program, running
from bench.slow_origin import COUNTS_PATH

QUIET_SECONDS = 0.2
_MAX_QUIET_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SlowOrigin:
    """A running :mod:`bench.slow_origin`."""

    program: Program
    port: int

    async def counts(self) -> dict[str, int]:
        """What it was asked and did so far."""
        url = f"http://127.0.0.1:{self.port}{COUNTS_PATH.decode()}"
        counts: dict[str, int] = json.loads(await text_of(url))
        return counts

    async def quiet(self) -> dict[str, int]:
        """The counts once nothing more is asked, and no body is under way. Raises
        :class:`BenchError` if that does not come to be.
        """
        before = await self.counts()
        async with _at_most(_MAX_QUIET_SECONDS, "the origin is asked on and on"):
            while True:
                await asyncio.sleep(QUIET_SECONDS)
                now = await self.counts()
                if now == before and not now["answering"]:
                    return now
                before = now


@asynccontextmanager
async def slow_origin(directory: Path, name: str, **options: float) -> AsyncIterator[SlowOrigin]:
    """Run it with ``options`` of its command line, underscores for hyphens."""
    command = [sys.executable, "-m", "bench.slow_origin"]
    for option, value in options.items():
        command += [f"--{option.replace('_', '-')}", f"{value:g}"]
    output = directory / name.replace(" ", "-")
    async with running("the slow origin", command, output) as program:
        port = int(await program.find_in_output(r"listening at port ([0-9]+)"))
        yield SlowOrigin(program, port)


async def text_of(url: str) -> str:
    """What an address answers. Raises :class:`BenchError`."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            response.raise_for_status()
            return await response.text()
    except aiohttp.ClientError as error:
        msg = f"{url} cannot be read: {error}"
        raise BenchError(msg) from error


@asynccontextmanager
async def _at_most(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        msg = f"{what} for {seconds:g} s"
        raise BenchError(msg) from None
