"""What aiohttp is told of a response that had begun and cannot go on: its connection is gone.

To raise the error would say the same. But aiohttp runs each request in a task, which keeps an
error, and waits for the task in a frame that the error then came through and that keeps the task:
a cycle, with all that the response had in hand, its cache file too. It would stay open until the
collector comes, which is rare, and does not come for want of descriptors. (Where the loss of the
connection is told first, the wait is cancelled instead, and there is no cycle; over TLS it is not.)
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter


class CutOff(web.StreamResponse):
    """Stands for the rest of a response, which nobody gets."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 (aiohttp's signature)
        """Raises ``ConnectionResetError``, of which aiohttp makes a mere flag on the spot."""
        msg = "the response was cut off"
        raise ConnectionResetError(msg)
