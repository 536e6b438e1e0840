"""Errors become JSON, unless the response has begun: then the connection is aborted."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from rangeserver.errors import ResponseError, StreamAborted, VersionNotSupported
from rangeserver.web.error_responses import INTERNAL_ERROR, error_response, response_for
from rangeserver.web.exchange import EXCHANGE, Outcome

log = logging.getLogger(__name__)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error by the error contract."""
    exchange = request[EXCHANGE]
    try:
        if not (1, 0) <= request.version <= (1, 1):
            # aiohttp would serve these as if they were HTTP/1.1.
            raise VersionNotSupported(f"HTTP/{request.version.major}.{request.version.minor}")
        return await handler(request)
    except StreamAborted as aborted:
        log.warning("request %s: response aborted: %s", exchange.request_id, aborted)
        raise
    except ConnectionError:
        raise
    except ResponseError as error:
        # What a client can bring about at will must not flood the log; its access line says it.
        level = logging.WARNING if error.status >= 500 else logging.DEBUG
        log.log(level, "request %s: %s: %s", exchange.request_id, error.code, error)
        response = response_for(error, exchange.request_id)
    except web.HTTPException as error:
        # Raised by aiohttp itself; its text stays inside.
        response = error_response(error.status, ("http_error", error.reason), exchange.request_id)
    except Exception as error:
        log.exception("request %s: unexpected error", exchange.request_id)
        if exchange.response_begun:
            exchange.abort(Outcome.FAILED)
            msg = "unexpected error"
            raise StreamAborted(msg) from error
        response = error_response(500, INTERNAL_ERROR, exchange.request_id)
    return response
