"""A network of its own, where packets can be lost without anybody else losing theirs.

The server runs inside, as a process. The fake and the clients stay in this process and only
their sockets are made inside: a socket belongs to the network it was made in, wherever its
owner is.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import DEADLINE_SECONDS, RawClient

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        output, _ = await process.communicate()
    assert process.returncode == 0, f"{' '.join(command)}: {output.decode()}"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace with a loopback interface."""

    name: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """Put before a command, runs it inside."""
        return ("ip", "netns", "exec", self.name)

    async def run(self, *command: str) -> None:
        await run(*self.prefix, *command)

    def new_socket(self, family: int = socket.AF_INET) -> socket.socket:
        """A TCP socket of this network."""
        # A thread has a network of its own to be in, and this one ends with the call.
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(self._new_socket, family).result()

    def _new_socket(self, family: int) -> socket.socket:
        descriptor = os.open(Path("/run/netns", self.name), os.O_RDONLY)
        try:
            if _LIBC.setns(descriptor, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            return socket.socket(family)
        finally:
            os.close(descriptor)

    def listener(self) -> socket.socket:
        """A socket of this network on a free port of its loopback interface."""
        listener = self.new_socket()
        listener.bind(("127.0.0.1", 0))
        return listener

    async def connect(self, port: int) -> RawClient:
        """A client of this network."""
        return await RawClient.connect(port, sock=self.new_socket())


@asynccontextmanager
async def namespace() -> AsyncIterator[Namespace]:
    """A fresh namespace, deleted on leaving; what runs in it must have ended by then."""
    own = Namespace(f"rangeserver-{os.getpid()}-{os.urandom(3).hex()}")
    await run("ip", "netns", "add", own.name)
    try:
        # Packets as large as on an Ethernet; those of a loopback would not pass a narrow queue.
        await own.run("ip", "link", "set", "lo", "mtu", "1500", "up")
        yield own
    finally:
        await run("ip", "netns", "delete", own.name)
