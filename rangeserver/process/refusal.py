"""Answers to what is no request: there is no place, no TLS, or nothing that can be read."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong

from rangeserver.errors import (
    BadRequest,
    RequestError,
    RequestTooLong,
    TargetNotEncoded,
    TooManyConnections,
)
from rangeserver.protocol.validators import format_http_date
from rangeserver.web.error_responses import error_body, error_headers
from rangeserver.web.exchange import Exchange, new_request_id


def refuse(error: type[RequestError], peer: str, transport: asyncio.Transport) -> Exchange:
    """Answer, and say that the connection ends; the record of it."""
    exchange = Exchange(new_request_id(), peer, "-", status=error.status)
    body = error_body(error.code, error.message, exchange.request_id)
    headers = error_headers(exchange.status, exchange.request_id, len(body)) | {
        "Connection": "close",
        "Date": format_http_date(int(time.time())),
    }
    if error.status == TooManyConnections.status:
        headers["Retry-After"] = "1"
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    status = f"{error.status} {HTTPStatus(error.status).phrase}"
    transport.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
    exchange.bytes_promised = exchange.bytes_sent = len(body)
    return exchange


def refusal_of(error: HttpProcessingError) -> type[RequestError]:
    """What is wrong with a request that the parser does not take."""
    if isinstance(error, LineTooLong):
        return RequestTooLong
    return TargetNotEncoded if isinstance(error, InvalidURLError) else BadRequest
