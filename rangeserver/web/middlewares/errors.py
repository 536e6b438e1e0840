"""Errors become JSON, unless the response has begun: then the connection is aborted."""

from __future__ import annotations

import logging
import re

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDictProxy

from rangeserver.errors import (
    BadRequest,
    RequestError,
    ResponseError,
    VersionNotSupported,
)
from rangeserver.web.aiohttp_insides import answer_as_http_1_1, version_of
from rangeserver.web.cut_off import cut_off
from rangeserver.web.error_responses import INTERNAL_ERROR, error_response, response_for
from rangeserver.web.exchange import EXCHANGE

log = logging.getLogger(__name__)

# uri-host [":" port] of RFC 9110 §7.2, taken loosely: what may stand in it at all.
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error by the error contract."""
    exchange = request[EXCHANGE]
    try:
        _check_protocol(request)
        return await handler(request)
    except Exception as error:
        if exchange.response_begun or isinstance(error, ConnectionError):
            return cut_off(exchange, error)
        return _answer(request, error, exchange.request_id)


def _answer(request: web.Request, error: Exception, request_id: str) -> web.Response:
    if isinstance(error, ResponseError):
        # What a client can bring about at will must not flood the log; its access line says it.
        by_client = isinstance(error, RequestError) or error.status < 500
        level = logging.DEBUG if by_client else logging.WARNING
        log.log(level, "request %s: %s: %s", request_id, error.code, error)
        response = response_for(error, request_id)
        if isinstance(error, VersionNotSupported) or _may_keep_its_body(request):
            response.force_close()
        return response
    if isinstance(error, web.HTTPException):
        # Raised by aiohttp itself; its text stays inside.
        return error_response(error.status, ("http_error", error.reason), request_id)
    log.error("request %s: unexpected error", request_id, exc_info=error)
    return error_response(500, INTERNAL_ERROR, request_id)


def _may_keep_its_body(request: web.Request) -> bool:
    """Whether the client may leave out a body that it announced: then no next request is sure."""
    return hdrs.EXPECT in request.headers and request.can_read_body


def host_is_sound(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the Host field holds what may stand there."""
    return _HOST.fullmatch(headers.get(hdrs.HOST, "")) is not None


def _check_protocol(request: web.Request) -> None:
    """Refuse what HTTP/1.1 says must be refused and aiohttp lets pass."""
    version = version_of(request)
    if not (1, 0) <= version <= (1, 1):
        # aiohttp would serve these as if they were HTTP/1.1, and answer under their version.
        answer_as_http_1_1(request)
        raise VersionNotSupported(f"HTTP/{version.major}.{version.minor}")
    if not host_is_sound(request.headers):
        raise BadRequest("the Host field holds no host (RFC 9112 §3.2)")
