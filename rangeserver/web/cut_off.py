"""The end of a response that has begun and cannot go on: its connection is aborted.

aiohttp leaves a connection open after a body that is too short, so that the client takes the next
response for the missing bytes, and lets an error handler write a second status line into a body
that has begun. So the connection is reset, and aiohttp is given :class:`CutOff` instead of the
error. To raise the error would say the same, but aiohttp runs each request in a task, which keeps
an error, and waits for the task in a frame that the error then came through and that keeps the
task: a reference cycle with everything that the response held, its cache file too, which would
stay open until the next garbage collection.
"""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from rangeserver.errors import OriginError, StreamAborted
from rangeserver.web.exchange import Exchange, outcome_of

log = logging.getLogger(__name__)


class CutOff(web.StreamResponse):
    """Stands for the rest of a response, which nobody gets."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 (aiohttp's signature)
        """Raises ``ConnectionResetError``, of which aiohttp makes a mere flag on the spot."""
        msg = "the response was cut off"
        raise ConnectionResetError(msg)


def cut_off(exchange: Exchange, error: BaseException) -> CutOff:
    """Reset the connection because of ``error``, and log it unless the client has just left."""
    if isinstance(error, (OriginError, StreamAborted)):
        log.warning("request %s: response aborted: %s", exchange.request_id, error)
    elif not isinstance(error, ConnectionError):
        log.error("request %s: unexpected error", exchange.request_id, exc_info=error)
    exchange.abort(outcome_of(error))
    return CutOff()
