"""The processes of the soak: its origin, and the server with settings that make trouble come soon.

What they should not have done is added to the list of violations.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import clean_environment
from bench.servers import cache_settings
from tests.exposition import Scrape, parsed
from tests.support import RawClient

_PORT = re.compile(r"at http://127\.0\.0\.1:(\d+)")
_UNEXPECTED = re.compile("Traceback|never retrieved|unexpected error|[Uu]nhandled")

CACHE_BYTES = 24 << 20
"""Of 64 MiB of objects."""

CACHE = {
    "RANGESERVER_CACHE__MAX_BYTES": str(CACHE_BYTES),
    "RANGESERVER_CACHE__MIN_FREE_BYTES": "0",
    "RANGESERVER_CACHE__BLOCK_BYTES": str(64 << 10),
    "RANGESERVER_CACHE__TTL_SECONDS": "1",
}

DEADLINES = {
    "RANGESERVER_ORIGIN__ADDRESSING_STYLE": "path",
    "RANGESERVER_ORIGIN__IDLE_SECONDS": "1",
    "RANGESERVER_ORIGIN__RESPONSE_SECONDS": "5",
    "AWS_ACCESS_KEY_ID": "soak",
    "AWS_SECRET_ACCESS_KEY": "soak",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass(slots=True)
class Server:
    """The server's process, and what its log said."""

    process: Process
    port: int = 0
    admin_port: int = 0
    lines: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)

    async def read_log(self) -> None:
        """Read until the process ends, so that it never has to drop a line."""
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            text = raw.decode()
            if _UNEXPECTED.search(text):
                self.unexpected.append(text)
            line = json.loads(text) if text.startswith("{") else {}
            if line.get("log") == "access":
                self.lines[line["outcome"]] += 1
            elif found := _PORT.search(line.get("message", "")):
                if "metrics" in line["message"]:
                    self.admin_port = int(found[1])
                else:
                    self.port = int(found[1])

    async def metrics(self) -> Scrape:
        """Read all series."""
        async with await RawClient.connect(self.admin_port) as client:
            return parsed((await client.get("/metrics")).body.decode())


@asynccontextmanager
async def origin(seed: int, violations: list[str]) -> AsyncIterator[int]:
    """The misbehaving origin; its port."""
    command = (sys.executable, "-m", "bench.soak_origin", str(seed))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    yield int(await process.stdout.readline())
    did, _ = await process.communicate(b"")  # its standard input ends
    print("origin:  ", ", ".join(f"{count} {what}" for what, count in json.loads(did).items()))
    if process.returncode:
        violations.append(f"the origin ended with {process.returncode}")


@asynccontextmanager
async def serving(
    origin_port: int, violations: list[str], cache: Path | None
) -> AsyncIterator[Server]:
    """The server, ended by SIGTERM; with a small cache in a directory, or with none."""
    settings = DEADLINES | cache_settings(cache) | (CACHE if cache is not None else {})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rangeserver", "serve", "--bucket", "films"),
        *("--endpoint-url", f"http://127.0.0.1:{origin_port}", "--port", "0", "--admin-port", "0"),
        stderr=PIPE,
        env=clean_environment(**settings),
    )
    server = Server(process)
    log = asyncio.create_task(server.read_log())
    try:
        async with asyncio.timeout(20):
            while not server.port:  # noqa: ASYNC110 (told by another process)
                await asyncio.sleep(0.05)
        yield server
    finally:
        process.terminate()
        await log
        code = await process.wait()
    if code:
        violations.append(f"the server ended with {code}")
    violations += [f"in the log: {line}" for line in server.unexpected[:10]]
