"""What aiohttp is told of a response that was sent past it."""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter


class SentResponse(web.StreamResponse):
    """A response that is over: there is nothing to prepare and nothing to end."""

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._keep_alive = keep_alive

    @property
    def prepared(self) -> bool:
        """It is."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 (aiohttp's signature)
        """Nothing is left to do."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to do."""
