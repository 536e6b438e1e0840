"""What this server uses of aiohttp that is not public: all of it, and other modules by these names.

A test compares the lists with the code, and with the aiohttp that is installed, so that an upgrade
that takes one away fails there and not in a connection.
"""

from __future__ import annotations

from aiohttp import HttpVersion, HttpVersion11, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import _ErrInfo

RefusedMessage = _ErrInfo
"""Stands in the queue of messages for what the parser refused: status, error, text."""

HANDLER_NAMES = frozenset(
    {
        "_loop",
        "_manager",  # the server; None once the connection is lost
        "_parser",
        # The queue of parsed requests, how many there were, and the future that the task of the
        # connection waits on while the queue is empty.
        *("_messages", "_request_count", "_waiter"),
        *("_current_request", "_handle_request"),
        # Reading is paused by aiohttp (for a body) and by us (for what lies ahead).
        *("_pause_transport_reading", "_reading_paused", "_resume_transport_reading"),
        *("_force_close", "_keepalive_handle", "_keepalive_timeout"),
        *("_next_keepalive_close_time", "_process_keepalive"),
    }
)
"""Of ``web.RequestHandler``, used by the connection (``rangeserver/process``), which is one."""

RUNNER_NAMES = frozenset({"_make_server"})
"""Of ``web.AppRunner``: which server it runs."""


async def drain(client: BaseProtocol) -> None:
    """Return once the connection takes more. Raises ``ConnectionError`` if the client has left."""
    await client._drain_helper()  # noqa: SLF001 (what aiohttp's own writers wait for)


def close_after(request: web.BaseRequest) -> None:
    """Have the response to ``request``, whose head is not made yet, say that it is the last."""
    request._message = request._message._replace(should_close=True)  # noqa: SLF001


def version_of(request: web.BaseRequest) -> HttpVersion:
    """The version of a request, which :func:`answer_as_http_1_1` can still change."""
    return request._version  # noqa: SLF001 (the public property keeps what it was first read as)


def answer_as_http_1_1(request: web.BaseRequest) -> None:
    """Have a request of a version that is not served answered with a head of HTTP/1.1."""
    request._version = HttpVersion11  # noqa: SLF001
