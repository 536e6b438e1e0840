"""Programs under test: started, watched until they serve, measured, and surely stopped."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.command import ROOT, BenchError

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

START_SECONDS = 15.0
"""For a program to serve."""

STOP_SECONDS = 5.0
"""For a program to stop when it is told to; then it is killed."""

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Program:
    """A running program, the leader of its own process group, and the file it writes to."""

    name: str
    process: asyncio.subprocess.Process
    output: Path

    def cpu_seconds(self) -> float:
        """User and system time so far of the process and all it started."""
        return sum(_cpu_seconds(pid) for pid in _family(self.process.pid))

    async def find_in_output(self, pattern: str) -> str:
        """The first group of ``pattern`` once it is in the output. Raises :class:`BenchError`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while self.process.returncode is None:
                    if found := re.search(pattern, self._text()):
                        return found[1]
                    await asyncio.sleep(_POLL_SECONDS)
        raise self._did_not_start()

    async def accepts(self, port: int) -> None:
        """Return once connections to ``port`` are taken. Raises :class:`BenchError`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while self.process.returncode is None:
                    with suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        writer.close()
                        return
                    await asyncio.sleep(_POLL_SECONDS)
        raise self._did_not_start()

    def _did_not_start(self) -> BenchError:
        lines = self._text().strip().splitlines()[-5:]
        return BenchError(f"{self.name} did not start: " + (" | ".join(lines) or "it said nothing"))

    def _text(self) -> str:
        return self.output.read_text(errors="replace")


@asynccontextmanager
async def running(
    name: str,
    command: Sequence[str],
    output: Path,
    *,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Program]:
    """Run ``command`` with all its output in a file; on leaving, it and what it started are gone.

    It gets a process group of its own: Ctrl-C at the terminal reaches only the benchmark, which
    stops everything in order.
    """
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=ROOT,
            env=environ,
            start_new_session=True,
        )
    try:
        yield Program(name, process, output)
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    try:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
    finally:  # also when the wait is cancelled, and for children that outlived their parent
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def free_port() -> int:
    """A port that nobody listens at, for programs that cannot choose one and tell."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def clean_environment(**own: str) -> dict[str, str]:
    """The environment without settings of rangeserver or AWS, and with ``own``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "RANGESERVER_"))
    }
    return kept | own


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):  # a thread or process that has just ended
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
    return found


def _cpu_seconds(pid: int) -> float:
    """utime + stime, and those of its children that have ended (proc_pid_stat(5), 14 to 17)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0  # ended, and counted by its parent from now on
    fields = stat.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS_PER_SECOND
