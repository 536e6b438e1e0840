"""Running the ``rangeserver`` command as a user does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

DEADLINE_SECONDS = 20.0
_ADDRESS = re.compile(r"at https?://(?:127\.0\.0\.1|\[::\]):(\d+)")


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str


def environment(changes: Mapping[str, str | None] | None) -> dict[str, str]:
    """The variables for a command; ``None`` in ``changes`` removes one."""
    variables = {**os.environ, **(changes or {})}
    return {name: value for name, value in variables.items() if value is not None}


class Way(Protocol):
    """A way to run the command to its end."""

    async def __call__(
        self, *arguments: str, environ: Mapping[str, str | None] | None = None
    ) -> Finished: ...


async def start(
    *arguments: str,
    environ: Mapping[str, str | None] | None = None,
    prefix: Sequence[str] = (),
    program: str = "rangeserver",
) -> Process:
    """Start the command, by way of ``prefix``. As ``program`` there is :mod:`tests.fairly` too."""
    return await asyncio.create_subprocess_exec(
        *prefix,
        sys.executable,
        "-m",
        program,
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(environ),
    )


async def run(*arguments: str, environ: Mapping[str, str | None] | None = None) -> Finished:
    """Run the command to its end."""
    process = await start(*arguments, environ=environ)
    async with asyncio.timeout(DEADLINE_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


@dataclass(slots=True)
class Served:
    """A running server and the lines it has logged."""

    process: Process
    port: int = 0
    admin_port: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def line(self) -> dict[str, Any]:
        """The next log line."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            line = await self.process.stderr.readline()
        assert line, "the server ended"
        fields: dict[str, Any] = json.loads(line)
        self.lines.append(fields)
        return fields

    async def line_with(self, text: str) -> dict[str, Any]:
        """The next log line whose message has ``text``."""
        while True:
            line = await self.line()
            if text in line.get("message", ""):
                return line

    async def ended(self) -> int:
        """The exit code."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def served(
    *arguments: str,
    environ: Mapping[str, str | None] | None = None,
    prefix: Sequence[str] = (),
    program: str = "rangeserver",
) -> AsyncIterator[Served]:
    """``rangeserver serve`` on a free port, ended by force if the test leaves it running."""
    ports = ("--port", "0", "--admin-port", "0")
    server = Served(
        await start("serve", *ports, *arguments, environ=environ, prefix=prefix, program=program)
    )
    try:
        server.admin_port = _port(await server.line_with("health, metrics and status"))
        server.port = _port(await server.line_with("serving bucket"))
        yield server
    finally:
        if server.process.returncode is None:
            server.process.kill()
        await server.process.communicate()


def _port(line: dict[str, Any]) -> int:
    found = _ADDRESS.search(line["message"])
    assert found is not None
    return int(found[1])
