"""Every error this project raises on purpose, on one screen.

    RangeserverError
    ├── ConfigError                 the configuration cannot be used; the process must not start
    ├── RequestError                the request cannot be served as asked
    │   ├── BadRequest              400
    │   │   ├── RequestTooLong      400
    │   │   ├── TargetNotEncoded    400
    │   │   └── TlsRequired         400
    │   ├── NoSuchPage              404  of the admin listener
    │   ├── NotThisHost             421  of the admin listener and the demo
    │   ├── KeyTooLong              414
    │   ├── MethodNotAllowed        405
    │   ├── ExpectationFailed       417
    │   ├── VersionNotSupported     505
    │   └── TooManyConnections      503
    └── OriginError                 the origin did not give what was needed
        ├── ObjectWithdrawn         what was known of this object holds no longer
        │   ├── ObjectNotFound      404
        │   │   ├── KeyRefused      404  the origin has no object with such a key, and takes none
        │   │   └── AccessHidden    404  or so we say: access is denied
        │   ├── AccessDenied        403
        │   └── ObjectChanged       503  the version asked for is gone (If-Match failed)
        ├── RangeUnsatisfiable      416  the object ends before the range asked for
        ├── OriginBusy              503  no free origin connection within the deadline
        │   └── OriginRecalled      503  a body's connection was needed for others
        ├── OriginThrottled         503  the origin asked us to slow down
        ├── OriginTimeout           504
        ├── OriginUnreachable       502
        │   └── OriginSuspended     503  not asked, for it did not answer others before
        ├── OriginServerError       502  it answered 500 or the like
        ├── OriginRefused           502  credentials, bucket or region are wrong
        │   ├── NoCredentials       502  there are none to sign with
        │   ├── CredentialsExpired  502  and no others were found
        │   ├── OriginClockSkew     502  this machine's clock is wrong, or the origin's
        │   └── UnclearRefusal      502  or this one key is refused: the answer does not say
        └── OriginProtocolError     502  the answer contradicts the request or itself
            └── OriginBodyError     502  the body broke: too short, too long, reset, too slow

    StreamAborted (ConnectionError) the response had begun and cannot be finished

``status`` and ``code`` are hints for the web layer, which alone turns an error into a
response. ``message`` is fixed text that a client may read; what really happened goes to
``detail`` and from there only to the log. ``StreamAborted`` is a ``ConnectionError``
because that is what makes aiohttp close the connection without writing anything more.
"""

from __future__ import annotations

from typing import ClassVar, Self


class RangeserverError(Exception):
    """Base of all expected errors."""


class ConfigError(RangeserverError):
    """The configuration is unusable; ``problems`` holds one line for each fault found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ResponseError(RangeserverError):
    """An error with an HTTP answer. ``detail`` is for the log and never leaves the server."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    message: ClassVar[str] = "The server failed to answer this request."

    def __init__(self, detail: str = "", *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail or self.message)
        self.detail = detail
        self.headers = headers or {}


class RequestError(ResponseError):
    """The request cannot be served as it was asked."""

    status = 400
    code = "bad_request"
    message = "The request is malformed."


class BadRequest(RequestError):
    """The request target or a header field is not acceptable (RFC 9110 §15.5.1)."""


class RequestTooLong(BadRequest):
    """The request line, a field or all of them pass a limit; the parser does not say which."""

    code = "request_too_long"
    message = "The request line or a header field is longer than 8190 bytes, or all than 32 KiB."


class TargetNotEncoded(BadRequest):
    """The request target has characters that may stand there only as escapes (RFC 3986 §2.1)."""

    message = "The request target is malformed: all but plain ASCII must be percent-encoded."


class TlsRequired(BadRequest):
    """Plain HTTP came to a port that speaks TLS."""

    code = "tls_required"
    message = "This port speaks HTTPS only."


class NoSuchPage(RequestError):
    """The admin listener has nothing there."""

    status = 404
    code = "not_found"
    message = "There is nothing here; try /status, /metrics, /healthz or /readyz."


class NotThisHost(RequestError):
    """The listener does not go by this name (RFC 9110 §15.5.20)."""

    status = 421
    code = "not_this_host"
    message = "This host name is not answered here; admin.names can add it for the admin listener."


class KeyTooLong(RequestError):
    """The object key is longer than S3 allows (RFC 9110 §15.5.15)."""

    status = 414
    code = "key_too_long"
    message = "The object key is longer than 1024 bytes."


class MethodNotAllowed(RequestError):
    """Only GET, HEAD and OPTIONS are served (RFC 9110 §15.5.6)."""

    status = 405
    code = "method_not_allowed"
    message = "Only GET, HEAD and OPTIONS are allowed."


class ExpectationFailed(RequestError):
    """The Expect field asks for something other than 100-continue (RFC 9110 §15.5.18)."""

    status = 417
    code = "expectation_failed"
    message = "The only expectation understood is 100-continue."


class VersionNotSupported(RequestError):
    """Only HTTP/1.0 and HTTP/1.1 are spoken (RFC 9110 §15.6.6)."""

    status = 505
    code = "http_version_not_supported"
    message = "Only HTTP/1.0 and HTTP/1.1 are supported."


class TooManyConnections(RequestError):
    """A connection limit is reached (RFC 9110 §15.6.4)."""

    status = 503
    code = "too_many_connections"
    message = "The server has as many connections as it allows; try again shortly."


class OriginError(ResponseError):
    """The origin did not give what was needed to answer.

    ``connecting`` tells of those without an answer whether there was not even a connection.
    """

    connecting = False

    status = 502
    code = "origin_error"
    message = "The origin failed."

    def again(self) -> Self:
        """The same error, to be raised for one more who waited for what failed.

        Of any class and with every field, but without traceback and causes: these lead to the
        frames that it came through, and all that they hold would stay for as long as the error.
        """
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__)
        return other


class ObjectWithdrawn(OriginError):
    """The origin's word on this object: it is not there, not for us, or another one now. Whatever
    was kept of it must not be told or served any more.
    """


class ObjectNotFound(ObjectWithdrawn):
    """There is no such object."""

    status = 404
    code = "not_found"
    message = "There is no object under this key."


class KeyRefused(ObjectNotFound):
    """The origin refuses the key by its name, so no object has it. That says nothing of the
    origin: some look at names before they look at who asks.
    """


class AccessHidden(ObjectNotFound):
    """The origin refuses access, which is not to be told from an object that is missing."""


class AccessDenied(ObjectWithdrawn):
    """The origin refuses access to this object."""

    status = 403
    code = "access_denied"
    message = "Access to this object is denied."


class ObjectChanged(ObjectWithdrawn):
    """The object is no longer the version that was described (If-Match failed at the origin)."""

    status = 503
    code = "object_changed"
    message = "The object is being replaced; try again shortly."


class RangeUnsatisfiable(OriginError):
    """The object exists and ends before the range asked for (RFC 9110 §15.5.17)."""

    status = 416
    code = "range_not_satisfiable"
    message = "No byte of the object lies in the range."

    def __init__(self, detail: str = "", *, size: int | None = None) -> None:
        """``size`` is that of the object in bytes, if the origin told it."""
        super().__init__(detail, headers=self.fields(size) if size is not None else None)
        self.size = size

    @staticmethod
    def fields(size: int) -> dict[str, str]:
        """The header field that belongs to this answer for an object of ``size`` bytes."""
        return {"Content-Range": f"bytes */{size}"}


class OriginBusy(OriginError):
    """Every origin connection stayed in use for as long as a request may wait."""

    status = 503
    code = "origin_busy"
    message = "The server is at its limit of origin connections; try again shortly."


class OriginRecalled(OriginBusy):
    """The connection of a body was given to others who waited; the body can be continued."""


class OriginThrottled(OriginError):
    """The origin asked for fewer requests (S3: SlowDown)."""

    status = 503
    code = "origin_throttled"
    message = "The origin is throttling requests; try again shortly."


class OriginTimeout(OriginError):
    """The origin did not answer in time."""

    status = 504
    code = "origin_timeout"
    message = "The origin did not answer in time."


class OriginUnreachable(OriginError):
    """No connection to the origin could be made or kept until it answered."""

    code = "origin_unreachable"
    message = "The origin cannot be reached."


class OriginSuspended(OriginUnreachable):
    """The origin was not asked: it has not answered lately, and is given a moment."""

    status = 503
    code = "origin_suspended"
    message = "The origin does not answer at the moment; try again shortly."


class OriginServerError(OriginError):
    """The origin says that it failed, which may pass."""

    code = "origin_failed"


class OriginRefused(OriginError):
    """The origin refuses this server: credentials, bucket, region or clock are wrong."""

    code = "origin_refused"
    message = "The origin refuses this server's requests."


class NoCredentials(OriginRefused):
    """There are no credentials to sign a request with."""


class CredentialsExpired(OriginRefused):
    """The credentials have expired, and no others were found."""


class OriginClockSkew(OriginRefused):
    """The origin's clock and this machine's differ by more than a signature allows."""

    code = "origin_clock_skew"
    message = "The clocks of the origin and of this server differ by too much."


class UnclearRefusal(OriginRefused):
    """The origin refuses the request, and its answer does not say whether all of this server's or
    those for this key alone. ``of_one_key`` is what it means in that case.
    """

    of_one_key: type[ObjectWithdrawn] = KeyRefused


class OriginProtocolError(OriginError):
    """The origin's answer contradicts the request or itself, so no byte of it was used."""

    code = "origin_protocol_error"
    message = "The origin gave an unusable answer."


class OriginBodyError(OriginProtocolError):
    """The body of an origin answer ended early, ran over, broke or came too slowly."""


class StreamAborted(ConnectionError):
    """A response that had begun cannot be completed; the connection is to be aborted."""
