"""The border between the libraries' errors and ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import aiohttp
import pytest
from aiobotocore.response import AioReadTimeoutError
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from rangeserver.errors import (
    AccessDenied,
    CredentialsExpired,
    KeyRefused,
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginClockSkew,
    OriginError,
    OriginProtocolError,
    OriginRefused,
    OriginServerError,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
    RangeUnsatisfiable,
    UnclearRefusal,
)
from rangeserver.origin.translate import (
    body_errors,
    error_from_answer,
    error_from_document,
    origin_errors,
)

# The stubs do not know that it is one of botocore's.
READ_TIMEOUT: Exception = AioReadTimeoutError(endpoint_url="http://x")  # type: ignore[call-arg]


def client_error(status: int, code: str, message: str = "") -> boto.ClientError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return boto.ClientError(answer, "GetObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", ObjectNotFound),
        (404, "NoSuchVersion", ObjectNotFound),
        (404, "NoSuchBucket", OriginRefused),
        (400, "InvalidObjectName", KeyRefused),
        (400, "InvalidURI", KeyRefused),
        (400, "KeyTooLongError", KeyRefused),
        (400, "XMinioInvalidObjectName", KeyRefused),
        (400, "InvalidArgument", UnclearRefusal),
        (400, "InvalidRequest", UnclearRefusal),
        (403, "AccessDenied", AccessDenied),
        (403, "AllAccessDisabled", AccessDenied),
        (403, "ExpiredToken", CredentialsExpired),
        (400, "ExpiredToken", CredentialsExpired),
        (400, "InvalidToken", CredentialsExpired),
        (403, "InvalidAccessKeyId", CredentialsExpired),
        (403, "SignatureDoesNotMatch", OriginRefused),
        (403, "RequestTimeTooSkewed", OriginClockSkew),
        (301, "PermanentRedirect", OriginRefused),
        (412, "PreconditionFailed", ObjectChanged),
        (416, "InvalidRange", RangeUnsatisfiable),
        (503, "SlowDown", OriginThrottled),
        (400, "RequestTimeout", OriginTimeout),
        (500, "InternalError", OriginServerError),
        (200, "InternalError", OriginServerError),
        # Without a known code the status decides.
        (301, "301", OriginRefused),
        (307, "307", OriginProtocolError),
        (400, "400", UnclearRefusal),
        (405, "MethodNotAllowed", UnclearRefusal),
        (409, "", UnclearRefusal),
        (414, "", UnclearRefusal),
        (410, "", ObjectNotFound),
        (451, "", AccessDenied),
        (401, "401", OriginRefused),
        (403, "", AccessDenied),
        (404, "404", ObjectNotFound),
        (404, "OfAnotherVendor", ObjectNotFound),
        (408, "", OriginTimeout),
        (412, "412", ObjectChanged),
        (416, "416", RangeUnsatisfiable),
        (429, "", OriginThrottled),
        (500, "500", OriginServerError),
        (502, "502", OriginServerError),
        (503, "503", OriginThrottled),
        (504, "", OriginTimeout),
        (599, "", OriginProtocolError),
        (0, "", OriginProtocolError),
    ],
)
def test_an_answer_becomes_an_error(status: int, code: str, kind: type[OriginError]) -> None:
    error = error_from_answer(status, {"Code": code, "Message": "said so"}, {})
    assert type(error) is kind
    assert error.detail == f"origin answered {status} {code}: said so"
    assert error.headers == ({"Retry-After": "1"} if kind.status == 503 else {})


@pytest.mark.parametrize(
    ("code", "kind"),
    [("InvalidRequest", AccessDenied), ("InvalidArgument", KeyRefused), ("", KeyRefused)],
)
def test_what_an_unclear_refusal_means_for_one_key(code: str, kind: type[OriginError]) -> None:
    error = error_from_answer(400, {"Code": code}, {})
    assert isinstance(error, UnclearRefusal)
    assert error.of_one_key is kind


@pytest.mark.parametrize(("mark", "kind"), [("true", ObjectNotFound), ("false", UnclearRefusal)])
def test_a_mark_of_deletion_is_no_object(mark: str, kind: type[OriginError]) -> None:
    error = error_from_answer(405, {"Code": "MethodNotAllowed"}, {"x-amz-delete-marker": mark})
    assert type(error) is kind


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (b"<Error><Code>NoSuchKey</Code><Message>said so</Message></Error>", ObjectNotFound),
        (b"<?xml?>\n<Error>\n <Message>said so</Message><Code>NoSuchKey</Code>", ObjectNotFound),
        (b"<Code>NoSuchBucket</Code>said so<Code>NoSuchKey</Code>", OriginRefused),
        (b"<html>404</html>", ObjectNotFound),
        (b"<Code></Code>", ObjectNotFound),
        (b"<Code>" + b"x" * 2000 + b"</Code>", ObjectNotFound),
        (b"<Code>\xff\xfe</Code>", ObjectNotFound),
        (b"", ObjectNotFound),
    ],
)
def test_an_error_document_is_read(document: bytes, kind: type[OriginError]) -> None:
    error = error_from_document(404, document, {})
    assert type(error) is kind
    assert ("said so" in error.detail) is (b"<Message>" in document)


@pytest.mark.parametrize(
    ("error", "headers", "size"),
    [
        ({}, {}, None),
        ({}, {"content-range": "bytes */500"}, 500),
        ({"ActualObjectSize": "500"}, {}, 500),
        ({"ActualObjectSize": "0"}, {"content-range": "bytes */0"}, 0),
        ({"ActualObjectSize": "-5"}, {"content-range": "bytes 0-1/5"}, None),
        ({"ActualObjectSize": "9" * 30}, {}, None),
    ],
)
def test_an_unsatisfiable_range_tells_the_size(
    error: dict[str, str], headers: dict[str, str], size: int | None
) -> None:
    ours = error_from_answer(416, {"Code": "InvalidRange", **error}, headers)
    assert isinstance(ours, RangeUnsatisfiable)
    assert ours.size == size
    assert ours.headers == ({} if size is None else {"Content-Range": f"bytes */{size}"})


@pytest.mark.parametrize(
    ("foreign", "connecting"),
    [
        (boto.ConnectTimeoutError(endpoint_url="http://x"), True),
        (boto.EndpointConnectionError(endpoint_url="http://x"), True),
        (aiohttp.ConnectionTimeoutError(), True),
        (boto.ReadTimeoutError(endpoint_url="http://x"), False),
        (boto.ConnectionClosedError(endpoint_url="http://x"), False),
        (aiohttp.ServerDisconnectedError(), False),
        (aiohttp.SocketTimeoutError(), False),
    ],
)
def test_what_failed_before_there_was_a_connection_says_so(
    foreign: Exception, connecting: bool
) -> None:
    with pytest.raises((OriginTimeout, OriginUnreachable)) as raised, origin_errors():
        raise foreign
    assert raised.value.connecting is connecting


@pytest.mark.parametrize(
    ("foreign", "kind"),
    [
        (client_error(404, "NoSuchKey"), ObjectNotFound),
        (boto.ClientError({}, "GetObject"), OriginProtocolError),
        (boto.NoCredentialsError(), OriginRefused),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), OriginRefused),
        (boto.CredentialRetrievalError(provider="x", error_msg="y"), OriginRefused),
        (boto.TokenRetrievalError(provider="x", error_msg="y"), OriginRefused),
        (boto.NoRegionError(), OriginRefused),
        (boto.ParamValidationError(report="Invalid bucket name"), OriginRefused),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), OriginTimeout),
        (boto.ReadTimeoutError(endpoint_url="http://x"), OriginTimeout),
        (READ_TIMEOUT, OriginTimeout),
        (TimeoutError(), OriginTimeout),
        (boto.EndpointConnectionError(endpoint_url="http://x"), OriginUnreachable),
        (boto.ConnectionClosedError(endpoint_url="http://x"), OriginUnreachable),
        (boto.SSLError(endpoint_url="https://x", error=OSError("y")), OriginUnreachable),
        (aiohttp.ServerDisconnectedError(), OriginUnreachable),
        (aiohttp.ClientOSError(), OriginUnreachable),
        (aiohttp.SocketTimeoutError(), OriginTimeout),
        (aiohttp.ConnectionTimeoutError(), OriginTimeout),
        (boto.HTTPClientError(error="y"), OriginProtocolError),
        (ResponseParserError("not XML"), OriginProtocolError),
        (aiohttp.ClientPayloadError(), OriginProtocolError),
        (ValueError("no date"), OriginProtocolError),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "odd"), OriginProtocolError),
    ],
)
def test_a_foreign_error_becomes_ours(foreign: Exception, kind: type[OriginError]) -> None:
    with pytest.raises(OriginError) as raised, origin_errors():
        raise foreign
    assert type(raised.value) is kind
    assert raised.value.__cause__ is foreign
    assert raised.value.message == kind.message


@pytest.mark.parametrize(
    "foreign",
    [
        aiohttp.ClientPayloadError("Response payload is not completed"),
        aiohttp.ServerDisconnectedError(),
        READ_TIMEOUT,
        boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_whatever_breaks_a_body_is_a_body_error(foreign: Exception) -> None:
    with pytest.raises(OriginBodyError) as raised, body_errors():
        raise foreign
    assert raised.value.__cause__ is foreign
    assert type(foreign).__name__ in raised.value.detail


@pytest.mark.parametrize("translate", [origin_errors, body_errors])
@pytest.mark.parametrize(
    "error", [KeyError("ours"), ZeroDivisionError(), asyncio.CancelledError(), KeyboardInterrupt()]
)
def test_what_is_no_fault_of_the_origin_passes(
    translate: Callable[[], AbstractContextManager[None]], error: BaseException
) -> None:
    with pytest.raises(type(error)) as raised, translate():
        raise error
    assert raised.value is error


def test_an_error_of_ours_passes_unchanged() -> None:
    error = ObjectChanged("first")
    with pytest.raises(ObjectChanged) as raised, origin_errors():
        raise error
    assert raised.value is error


def test_a_foreign_message_is_cut() -> None:
    with pytest.raises(OriginRefused) as refused, origin_errors():
        raise client_error(403, "ExpiredToken", "x" * 100_000)
    with pytest.raises(OriginBodyError) as broken, body_errors():
        raise aiohttp.ClientPayloadError("y" * 100_000)
    assert len(refused.value.detail) == len(broken.value.detail) == 500


@pytest.mark.parametrize("translate", [origin_errors, body_errors])
def test_what_an_error_came_through_is_let_go_of(
    translate: Callable[[], AbstractContextManager[None]],
) -> None:
    """Readers of the library keep the error that ended them, and it all of these frames."""
    own = aiohttp.SocketTimeoutError("late")
    outer = boto.ReadTimeoutError(endpoint_url="/")

    def fail() -> None:
        try:
            raise own
        except aiohttp.ClientError as error:
            raise outer from error

    with pytest.raises(OriginError) as raised, translate():
        fail()
    assert raised.value.__cause__ is outer
    assert outer.__cause__ is own
    assert own.__traceback__ is outer.__traceback__ is None
