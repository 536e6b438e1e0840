"""What every benchmark's command does alike: options, a clear end, nothing left running."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from rangeserver.process.loop import new_event_loop

ROOT = Path(__file__).resolve().parent.parent
"""The repository; servers run here, so that it is its code that is measured."""

CONNECTIONS = 32
KIB = 1024
MIB = 1024 * KIB
RANGE_SIZES = (64 * KIB, MIB, 8 * MIB)


class BenchError(Exception):
    """The benchmark cannot go on; the message says why in one sentence."""


def require(program: str, package: str) -> str:
    """The path of a program. Raises :class:`BenchError` naming the package that has it."""
    path = os.environ.get("PATH", os.defpath)
    found = shutil.which(program, path=f"{path}:/usr/sbin:/sbin")  # services' place in Debian
    if found is None:
        msg = f"{program} is missing; Debian has it in the package {package}"
        raise BenchError(msg)
    return found


def size_name(size: int) -> str:
    """``65536`` as ``64 KiB``."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def rounds_parser(summary: str, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """The options of a benchmark of alternating runs."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--rounds", type=at_least_one, default=rounds, help="runs of each side")
    parser.add_argument("--seconds", type=float, default=seconds, help="length of one run")
    parser.add_argument("--connections", type=at_least_one, default=CONNECTIONS)
    parser.add_argument("--seed", type=int, default=1, help="of the choice of ranges")
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default=RANGE_SIZES,
        help="lengths of the ranges in KiB, with commas: 64,1024,8192",
    )
    return parser


def at_least_one(text: str) -> int:
    """A number on the command line."""
    number = int(text)
    if number < 1:
        msg = "must be at least 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(at_least_one(item) * KIB for item in text.split(","))


def run(benchmark: Callable[[], Awaitable[None]]) -> None:
    """Run a benchmark to its end; Ctrl-C and SIGTERM end it after it has cleaned up."""
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_until_terminated(benchmark))
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


async def _until_terminated(benchmark: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await benchmark()
