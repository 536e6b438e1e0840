"""The error contract: JSON with a code, a fixed message and the request id, nothing more."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import hdrs, web

from rangeserver.errors import RangeUnsatisfiable, ResponseError
from rangeserver.web.exchange import REQUEST_ID

ALLOWED_METHODS = "GET, HEAD, OPTIONS"

PRECONDITION_FAILED = ("precondition_failed", "A precondition of the request is false.")
RANGE_NOT_SATISFIABLE = (RangeUnsatisfiable.code, RangeUnsatisfiable.message)
INTERNAL_ERROR = (ResponseError.code, ResponseError.message)

# RFC 9110 renamed these; Python up to 3.12 has the old phrases.
_REASONS = {414: "URI Too Long", 416: "Range Not Satisfiable"}

_OWN_HEADERS: dict[int, dict[str, str]] = {405: {hdrs.ALLOW: ALLOWED_METHODS}}


def error_headers(status: int, request_id: str, length: int) -> dict[str, str]:
    """The fields of every error response."""
    return {
        hdrs.CONTENT_TYPE: "application/json",
        hdrs.CONTENT_LENGTH: str(length),
        hdrs.CACHE_CONTROL: "no-store",
        hdrs.SERVER: "rangeserver",
        "X-Content-Type-Options": "nosniff",
        REQUEST_ID: request_id,
        **_OWN_HEADERS.get(status, {}),
    }


def error_body(code: str, message: str, request_id: str) -> bytes:
    """The body of every error response."""
    error = {"code": code, "message": message, "request_id": request_id}
    return json.dumps({"error": error}).encode()


def error_response(
    status: int,
    code_and_message: tuple[str, str],
    request_id: str,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An error response."""
    body = error_body(*code_and_message, request_id)
    return web.Response(
        status=status,
        reason=_REASONS.get(status),
        body=body,
        headers={**error_headers(status, request_id, len(body)), **(headers or {})},
    )


def response_for(error: ResponseError, request_id: str) -> web.Response:
    """The response to an expected error."""
    return error_response(error.status, (error.code, error.message), request_id, error.headers)
