"""The record of one request and its response: what is logged, counted and shown.

How an exchange ends is decided here (:func:`outcome_of`); where it ends, in :mod:`.exchanges`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
import struct
import time
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from rangeserver.errors import OriginError, StreamAborted
from rangeserver.logs import access_log, log_access
from rangeserver.origin.base import ReadReport

REQUEST_ID = "X-Request-Id"
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_MAX_LOGGED_RANGE = 256
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)


class Outcome(StrEnum):
    """How a response ended."""

    COMPLETE = "complete"
    CLIENT_GONE = "client_gone"
    CLIENT_TOO_SLOW = "client_too_slow"
    ORIGIN_FAILED = "origin_failed"
    DRAINED = "drained"
    FAILED = "failed"


def outcome_of(error: BaseException | None) -> Outcome:
    """How a response ended that ``error`` came out of, or none."""
    if error is None:
        return Outcome.COMPLETE
    if isinstance(error, OriginError):
        return Outcome.ORIGIN_FAILED
    if isinstance(error, (ConnectionError, asyncio.CancelledError)) and not isinstance(
        error, StreamAborted
    ):
        return Outcome.CLIENT_GONE
    return Outcome.FAILED


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and what became of it. Counts are of body bytes; times are monotonic seconds.

    ``bytes_sent`` counts what the connection took over, which for a client that left may be
    more than it received. ``bytes_waiting`` of those do not yet lie in the kernel, apart from what
    the transport keeps.
    """

    request_id: str
    client: str
    method: str
    key: str = ""
    asked_range: str | None = None
    status: int = 0
    content_range: str | None = None
    bytes_promised: int = 0
    bytes_sent: int = 0
    bytes_waiting: int = 0
    outcome: Outcome | None = None
    from_object: bool = False
    origin: ReadReport = field(init=False)
    started: float = field(default_factory=time.monotonic)
    first_byte: float | None = None
    finished: float | None = None
    response_begun: bool = False
    transport: asyncio.Transport | None = None

    def __post_init__(self) -> None:
        self.origin = ReadReport(self.request_id, self.client)

    @property
    def source(self) -> str | None:
        """Where the body came from; ``None`` if it is the server's own."""
        if not self.from_object:
            return None
        report = self.origin
        if not report.cached:
            return "origin"
        return "mixed" if report.fetched else "cache"

    def begin_response(self) -> None:
        """Its first bytes are about to be sent: from now on its progress counts."""
        self.response_begun = self.origin.begun = True
        if self.origin.deadline is not None:
            self.origin.deadline.lift()

    def abort(self, outcome: Outcome) -> None:
        """End the response by resetting its connection. The first reason given stands."""
        if self.outcome is None:
            self.outcome = outcome
        if self.transport is not None:
            _reset(self.transport)

    def give_up_waiting(self) -> None:
        """What still waits will not be sent, if anything does."""
        self.bytes_sent -= self.bytes_waiting
        self.bytes_waiting = 0

    def fields(self) -> dict[str, object]:
        """The access line."""
        end = self.finished if self.finished is not None else time.monotonic()
        ttfb = None if self.first_byte is None else _milliseconds(self.first_byte - self.started)
        return {
            "request_id": self.request_id,
            "client": self.client,
            "method": self.method,
            "key": self.key,
            "status": self.status,
            "range": self.asked_range,
            "bytes_promised": self.bytes_promised,
            "bytes_sent": self.bytes_sent,
            "outcome": self.outcome,
            "ttfb_ms": ttfb,
            "duration_ms": _milliseconds(end - self.started),
            "source": self.source,
            "resumes": self.origin.resumes,
        }


def _reset(transport: asyncio.Transport) -> None:
    """Close with an RST. A FIN would leave what is unsent in the kernel's memory, for as long as
    a peer that reads nothing likes, and an old client might take it for the end of the body.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    transport.abort()


EXCHANGE = web.RequestKey("exchange", Exchange)


def begin_exchange(request: web.BaseRequest) -> Exchange:
    """Start the record of a request; a sound X-Request-Id of a front is kept."""
    exchange = new_exchange(request.headers, request.method, request.remote, request.transport)
    request[EXCHANGE] = exchange
    return exchange


def new_exchange(
    headers: CIMultiDictProxy[str],
    method: str,
    client: str | None,
    transport: asyncio.Transport | None,
) -> Exchange:
    """The record of a request with these header fields."""
    given = headers.get(REQUEST_ID, "")
    # aiohttp's stand-in for a request it could not parse has a plain dictionary, without getall.
    ranges = headers.getall(hdrs.RANGE, ()) if headers else ()
    return Exchange(
        request_id=given if _GIVEN_ID.fullmatch(given) else new_request_id(),
        client=client or "",
        method=method,
        asked_range=", ".join(ranges)[:_MAX_LOGGED_RANGE] if ranges else None,
        transport=transport,
    )


def new_request_id() -> str:
    """A fresh request id: unlike any other, but no secret."""
    return f"{random.getrandbits(64):016x}"  # seeded by the system, and anew after a fork


def own_fields(request_id: str) -> dict[str, str]:
    """The header fields that every response carries, unless it has its own."""
    return {
        hdrs.SERVER: "rangeserver",
        "X-Content-Type-Options": "nosniff",
        REQUEST_ID: request_id,
    }


def log_exchange(exchange: Exchange) -> None:
    """Write the access line of a finished exchange."""
    if access_log.isEnabledFor(logging.INFO):
        log_access(exchange.fields())


def _milliseconds(seconds: float) -> float:
    return int(seconds * 1_000_000) / 1000
