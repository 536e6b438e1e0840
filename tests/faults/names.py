"""Names of hosts, as a test has them resolved."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp.abc import ResolveResult


class Names:
    """A resolver of all names alike, whose answers a test decides."""

    def __init__(self) -> None:
        self.address: str | None = "127.0.0.1"
        self.answering = asyncio.Event()
        self.answering.set()

    @asynccontextmanager
    async def unknown(self) -> AsyncIterator[None]:
        """There is no such name."""
        self.address = None
        try:
            yield
        finally:
            self.address = "127.0.0.1"

    async def resolve(
        self, _: object, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        await self.answering.wait()
        if self.address is None:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(
                hostname=host, host=self.address, port=port, family=family, proto=0, flags=0
            )
        ]
