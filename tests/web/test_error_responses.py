"""What every error response is made of."""

from __future__ import annotations

import json

import pytest

from rangeserver.errors import ObjectNotFound, OriginThrottled
from rangeserver.web.error_responses import error_response, response_for


def test_a_code_a_message_and_an_id_and_nothing_more() -> None:
    response = response_for(ObjectNotFound("what only the log is told"), "abc12345")
    assert response.status == 404
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {
        "error": {
            "code": "not_found",
            "message": ObjectNotFound.message,
            "request_id": "abc12345",
        }
    }
    assert dict(response.headers) == {
        "Content-Type": "application/json",
        "Content-Length": str(len(response.body)),
        "Cache-Control": "no-store",
        "Server": "rangeserver",
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": "abc12345",
    }


def test_the_fields_of_an_error_are_sent() -> None:
    error = OriginThrottled("slow down", headers={"Retry-After": "7"})
    assert response_for(error, "abc12345").headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "Not Found"), (414, "URI Too Long"), (416, "Range Not Satisfiable")],
)
def test_reasons_are_those_of_rfc_9110(status: int, reason: str) -> None:
    assert error_response(status, ("code", "Message."), "abc12345").reason == reason


def test_whoever_may_not_do_it_is_told_what_may_be_done() -> None:
    response = error_response(405, ("method_not_allowed", "Not that."), "abc12345")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
