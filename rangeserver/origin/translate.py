"""The border: what botocore, aiobotocore and aiohttp raise becomes our own errors here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from rangeserver.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginError,
    OriginProtocolError,
    OriginRefused,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)

RETRY_AFTER = {"Retry-After": "1"}

_MAX_DETAIL = 500
"""Characters of a foreign message that may reach the log. aiohttp puts the bytes it could not
parse into its own, up to 64 KiB of them."""

_BY_CODE: dict[str, type[OriginError]] = {
    "NoSuchKey": ObjectNotFound,
    "NoSuchVersion": ObjectNotFound,
    "AccessDenied": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "InvalidObjectState": AccessDenied,  # archived: cannot be read until it is restored
    "PreconditionFailed": ObjectChanged,
    "InvalidRange": ObjectChanged,  # ranges are cut to the described size: it has shrunk
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
    "ExpiredToken": OriginRefused,
    "ExpiredTokenException": OriginRefused,
    "InvalidToken": OriginRefused,
    "TokenRefreshRequired": OriginRefused,
    "InvalidAccessKeyId": OriginRefused,
    "SignatureDoesNotMatch": OriginRefused,
    "RequestTimeTooSkewed": OriginRefused,
    "RequestExpired": OriginRefused,
    "AccountProblem": OriginRefused,
    "NotSignedUp": OriginRefused,
}

# A HEAD has no body and so no code: botocore gives the status in its place.
_BY_STATUS: dict[int, type[OriginError]] = {
    301: OriginRefused,
    302: OriginProtocolError,
    307: OriginProtocolError,
    308: OriginProtocolError,
    400: OriginRefused,
    401: OriginRefused,
    403: AccessDenied,
    404: ObjectNotFound,
    408: OriginTimeout,
    412: ObjectChanged,
    416: ObjectChanged,
    429: OriginThrottled,
    503: OriginThrottled,
    504: OriginTimeout,
}


def error_from_answer(status: int, code: str, text: str = "") -> OriginError:
    """The error for an origin's answer, by its S3 code, or by its status where it has none."""
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, OriginProtocolError)
    headers = RETRY_AFTER if kind.status == 503 else None
    return kind(f"origin answered {status} {code}: {text}"[:_MAX_DETAIL], headers=headers)


@contextmanager
def origin_errors() -> Iterator[None]:
    """Raise our errors in place of those of the libraries while an answer is awaited."""
    try:
        yield
    except boto.ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        details = error.response.get("Error", {})
        raise error_from_answer(
            status, str(details.get("Code", "")), str(details.get("Message", ""))
        ) from error
    except (boto.NoCredentialsError, boto.CredentialRetrievalError, boto.NoRegionError) as error:
        raise OriginRefused(_text(error)) from error
    except (boto.PartialCredentialsError, boto.TokenRetrievalError) as error:
        raise OriginRefused(_text(error)) from error
    except (boto.ConnectTimeoutError, boto.ReadTimeoutError, TimeoutError) as error:
        raise OriginTimeout(_text(error)) from error
    except boto.ParamValidationError as error:
        raise OriginRefused(_text(error)) from error
    except (boto.ConnectionError, boto.ConnectionClosedError) as error:
        raise OriginUnreachable(_text(error)) from error
    except (boto.BotoCoreError, ResponseParserError, aiohttp.ClientError) as error:
        raise OriginProtocolError(_text(error)) from error
    except ValueError as error:  # botocore converts header fields without a net
        raise OriginProtocolError(_text(error)) from error


@contextmanager
def body_errors() -> Iterator[None]:
    """The same while a body is read: whatever breaks it is an :class:`OriginBodyError`."""
    try:
        yield
    except (boto.BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise OriginBodyError(_text(error)) from error


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_DETAIL]
