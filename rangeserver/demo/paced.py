"""A bucket as far away as a real one: over loopback every sample would be there at once.

A player that has the whole file asks for nothing when someone seeks in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_BURST_BYTES = 256 * 1024
"""Sent at once: a player starts without a wait."""

_PIECE_BYTES = 16 * 1024


class Paced:
    """A WSGI application whose GET bodies keep to a rate; each runs in a thread of its own."""

    def __init__(self, app: WSGIApplication, bytes_per_second: int) -> None:
        self._app = app
        self._rate = bytes_per_second

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as ``app`` does, more slowly."""
        body = self._app(environ, start_response)
        return self._slowly(body) if environ["REQUEST_METHOD"] == "GET" else body

    def _slowly(self, body: Iterable[bytes]) -> Iterator[bytes]:
        allowed = float(_BURST_BYTES)
        last = time.monotonic()
        try:
            for chunk in body:
                for start in range(0, len(chunk), _PIECE_BYTES):
                    piece = chunk[start : start + _PIECE_BYTES]
                    now = time.monotonic()
                    allowed = min(allowed + (now - last) * self._rate, _BURST_BYTES) - len(piece)
                    last = now
                    if allowed < 0:
                        time.sleep(-allowed / self._rate)
                    yield piece
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
