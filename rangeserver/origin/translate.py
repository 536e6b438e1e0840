"""Translates errors of botocore, aiobotocore and aiohttp, and error documents, into our own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import aiohttp
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
from rangeserver.origin.obstacles import obstacle

RETRY_AFTER = {"Retry-After": "1"}

_MAX_DETAIL = 500
"""The most characters of a foreign message that are logged. aiohttp's may hold 64 KiB of what it
could not parse."""

_BY_CODE: dict[str, type[OriginError]] = {
    "NoSuchKey": ObjectNotFound,
    "NoSuchVersion": ObjectNotFound,
    "InvalidObjectName": KeyRefused,
    "InvalidURI": KeyRefused,
    "KeyTooLongError": KeyRefused,
    "XMinioInvalidObjectName": KeyRefused,
    "XMinioInvalidResourceName": KeyRefused,
    "AccessDenied": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "InvalidObjectState": AccessDenied,  # archived: cannot be read until it is restored
    "PreconditionFailed": ObjectChanged,
    "InvalidRange": RangeUnsatisfiable,
    "InternalError": OriginServerError,
    "SlowDown": OriginThrottled,
    "ServiceUnavailable": OriginThrottled,
    "RequestLimitExceeded": OriginThrottled,
    "TooManyRequests": OriginThrottled,
    "RequestTimeout": OriginTimeout,
    "NoSuchBucket": OriginRefused,
    "InvalidBucketName": OriginRefused,
    "PermanentRedirect": OriginRefused,
    "AuthorizationHeaderMalformed": OriginRefused,
    "IllegalLocationConstraintException": OriginRefused,
    "ExpiredToken": CredentialsExpired,
    "ExpiredTokenException": CredentialsExpired,
    "InvalidToken": CredentialsExpired,
    "TokenRefreshRequired": CredentialsExpired,
    "InvalidAccessKeyId": CredentialsExpired,  # so is a key that was replaced by another
    "SignatureDoesNotMatch": OriginRefused,
    "RequestTimeTooSkewed": OriginClockSkew,
    "RequestExpired": OriginRefused,
    "AccountProblem": OriginRefused,
    "NotSignedUp": OriginRefused,
}

# A HEAD has no body and so no code: botocore has the status instead.
_BY_STATUS: dict[int, type[OriginError]] = {
    301: OriginRefused,
    302: OriginProtocolError,
    307: OriginProtocolError,
    308: OriginProtocolError,
    401: OriginRefused,
    403: AccessDenied,
    404: ObjectNotFound,
    410: ObjectNotFound,
    451: AccessDenied,
    408: OriginTimeout,
    412: ObjectChanged,
    416: RangeUnsatisfiable,
    429: OriginThrottled,
    500: OriginServerError,
    502: OriginServerError,
    503: OriginThrottled,
    504: OriginTimeout,
}


_IN_DOCUMENT = re.compile(rb"<(Code|Message|ActualObjectSize)>([^<]{1,1024})</")


def error_from_document(status: int, document: bytes, headers: Mapping[str, str]) -> OriginError:
    """The error for an answer with S3's error document, or with any other body."""
    found = {
        name.decode(): text.decode("utf-8", "replace")
        for name, text in reversed(_IN_DOCUMENT.findall(document))
    }  # the first of each is used
    return error_from_answer(status, found, headers)


def error_from_answer(
    status: int, error: Mapping[str, object], headers: Mapping[str, str]
) -> OriginError:
    """The error for an answer, by S3's code in ``error``, or by its status if there is none."""
    code = str(error.get("Code", ""))
    kind = _kind(status, code, headers)
    detail = f"origin answered {status} {code}: {error.get('Message', '')}"[:_MAX_DETAIL]
    if kind is RangeUnsatisfiable:
        given = headers.get("content-range", "").removeprefix("bytes */")
        size = whole_number(given) or whole_number(str(error.get("ActualObjectSize")))
        return RangeUnsatisfiable(detail, size=size)
    ours = kind(detail, headers=RETRY_AFTER if kind.status == 503 else None)
    if isinstance(ours, UnclearRefusal) and code == "InvalidRequest":
        ours.of_one_key = AccessDenied  # encrypted with a key that was not sent, for example
    return ours


def _kind(status: int, code: str, headers: Mapping[str, str]) -> type[OriginError]:
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status)
    if kind is not None:
        return kind
    if not 400 <= status < 500:
        return OriginProtocolError
    # S3 answers 405 for a version that is a delete marker. Other statuses of this class may be
    # about the key or about us: one store says InvalidArgument of "a//b", and another of an access
    # key of the wrong length.
    deleted = headers.get("x-amz-delete-marker", "").lower() == "true"
    return ObjectNotFound if deleted else UnclearRefusal


def whole_number(text: str | None) -> int | None:
    """The number in a field, if it can be the size of an object."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


# The first match is used.
_BY_FOREIGN_KIND: tuple[tuple[tuple[type[Exception], ...], type[OriginError], bool], ...] = (
    (
        (
            *(boto.NoCredentialsError, boto.CredentialRetrievalError, boto.NoRegionError),
            *(boto.PartialCredentialsError, boto.TokenRetrievalError, boto.ParamValidationError),
        ),
        OriginRefused,
        False,
    ),
    ((boto.ConnectTimeoutError, aiohttp.ConnectionTimeoutError), OriginTimeout, True),
    ((boto.ReadTimeoutError, TimeoutError), OriginTimeout, False),
    ((boto.EndpointConnectionError, aiohttp.ClientConnectorError), OriginUnreachable, True),
    (
        (boto.ConnectionError, boto.ConnectionClosedError, aiohttp.ClientConnectionError),
        OriginUnreachable,
        False,
    ),
    # ValueError: botocore does not catch those of its own conversions of header fields.
    (
        (boto.BotoCoreError, ResponseParserError, aiohttp.ClientError, ValueError),
        OriginProtocolError,
        False,
    ),
)
"""Foreign errors, ours for them, and whether there was no connection yet."""

E = TypeVar("E", bound=Exception)

_FOREIGN = tuple(kind for kinds, _, _ in _BY_FOREIGN_KIND for kind in kinds)


@contextmanager
def origin_errors() -> Iterator[None]:
    """Raise our errors instead of those of the libraries, until there is an answer."""
    try:
        yield
    except boto.ClientError as error:
        about = error.response.get("ResponseMetadata", {})
        details: Mapping[str, object] = error.response.get("Error", {})
        status = int(about.get("HTTPStatusCode", 0))
        raise error_from_answer(status, details, about.get("HTTPHeaders", {})) from error
    except _FOREIGN as error:
        raise _ours(error) from _without_frames(error)


def _ours(error: Exception) -> OriginError:
    for kinds, kind, connecting in _BY_FOREIGN_KIND:
        if isinstance(error, kinds):
            ours = kind(_text(error))
            ours.connecting = connecting
            return ours
    raise AssertionError(error)


@contextmanager
def body_errors() -> Iterator[None]:
    """The same while a body is read: any error is an :class:`OriginBodyError`."""
    try:
        yield
    except (boto.BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise OriginBodyError(_text(error)) from _without_frames(error)


def _without_frames(error: E) -> E:
    """The same error, without its traceback and those of its causes.

    aiohttp's reader of a body keeps the error that ended it, and one of the frames is its own: a
    cycle that would keep alive all frames above, and open cache files.
    """
    link: BaseException | None = error
    while isinstance(link, _FOREIGN):
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def _text(error: BaseException) -> str:
    plainly = obstacle(error)
    text = f"{type(error).__name__}: {error}"
    return (text if plainly is None else f"{plainly.found} ({text})")[:_MAX_DETAIL]
