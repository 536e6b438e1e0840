"""Every error this project raises on purpose, as one table.

Longer than 300 lines, because the whole table is what a reader looks for: what errors there are,
with which status, code and text.

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
        ├── ObjectWithdrawn         what was known of this object is not true any more
        │   ├── ObjectNotFound      404
        │   │   ├── KeyRefused      404  the origin has no object with such a key, and takes none
        │   │   └── AccessHidden    404  access is denied, which clients are not told
        │   ├── AccessDenied        403
        │   └── ObjectChanged       503  the version asked for is gone (If-Match failed)
        ├── RangeUnsatisfiable      416  the object ends before the range asked for
        ├── OriginBusy              503  no free origin connection within the deadline
        │   └── OriginRecalled      503  a body's connection was needed for others
        ├── OriginThrottled         503  the origin asked us to slow down
        ├── OriginTimeout           504
        ├── OriginUnreachable       502
        │   └── OriginSuspended     503  not asked: the circuit is open
        ├── OriginServerError       502  it answered 500 or the like
        ├── OriginRefused           502  credentials, bucket or region are wrong
        │   ├── NoCredentials       502  there are none to sign with
        │   │   └── NoneFound       502  every source was asked, and has none
        │   ├── CredentialsExpired  502  and no others were found
        │   ├── OriginClockSkew     502  this machine's clock is wrong, or the origin's
        │   └── UnclearRefusal      502  or this one key is refused: the answer does not say
        └── OriginProtocolError     502  the answer contradicts the request or itself
            └── OriginBodyError     502  the body broke: too short, too long, reset, too slow

    StreamAborted (ConnectionError) the response had begun and cannot be finished

Only the web layer turns an error into a response; ``status`` and ``code`` are hints for it.
``message`` is fixed text for clients. ``detail`` says what happened and goes only to the log.
``StreamAborted`` is a ``ConnectionError``, for which aiohttp closes the connection without writing
anything more.
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
    """The request line, a field or all fields exceed a limit; the parser does not say which."""

    code = "request_too_long"
    message = "The request line or a header field is longer than 8190 bytes, or all than 32 KiB."


class TargetNotEncoded(BadRequest):
    """The request target has characters that must be percent-encoded there (RFC 3986 §2.1)."""

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
    """The listener does not answer requests for this host name (RFC 9110 §15.5.20)."""

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

    ``connecting``: there is no answer because no connection could be made.
    """

    connecting = False

    status = 502
    code = "origin_error"
    message = "The origin failed."

    def again(self) -> Self:
        """A copy, to be raised for each caller that waited for the same work, or to be kept.

        It has every field, but neither traceback nor causes. These refer to the frames that the
        error came through, and would keep alive all that they refer to, such as open files.
        """
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__)
        return other


class ObjectWithdrawn(OriginError):
    """The origin says that this object is gone, denied or replaced. What is cached of it must not
    be used any more.
    """


class ObjectNotFound(ObjectWithdrawn):
    """There is no such object."""

    status = 404
    code = "not_found"
    message = "There is no object under this key."


class KeyRefused(ObjectNotFound):
    """The origin refuses the key by its name, so no object has it. That does not prove good
    credentials: some stores look at the name first.
    """


class AccessHidden(ObjectNotFound):
    """The origin denies access, and clients cannot tell that from a missing object."""


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
        """``size`` is that of the object in bytes, if known."""
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
    """The origin was not asked: it has not answered lately, and the circuit is open."""

    status = 503
    code = "origin_suspended"
    message = "The origin does not answer at the moment; try again shortly."


class OriginServerError(OriginError):
    """The origin says that it failed, perhaps only for now."""

    code = "origin_failed"


class OriginRefused(OriginError):
    """The origin refuses this server: credentials, bucket, region or clock are wrong."""

    code = "origin_refused"
    message = "The origin refuses this server's requests."


class NoCredentials(OriginRefused):
    """There are no credentials to sign a request with."""


class NoneFound(NoCredentials):
    """Every source of AWS's chain was asked, and none has credentials."""


class CredentialsExpired(OriginRefused):
    """The credentials have expired, and no others were found."""


class OriginClockSkew(OriginRefused):
    """The origin's clock and this machine's differ by more than a signature allows."""

    code = "origin_clock_skew"
    message = "The clocks of the origin and of this server differ by too much."


class UnclearRefusal(OriginRefused):
    """The origin refuses the request, and its answer does not say whether that is about all of this
    server's requests or about this key alone. In the second case it means ``of_one_key``.
    """

    of_one_key: type[ObjectWithdrawn] = KeyRefused


class OriginProtocolError(OriginError):
    """The origin's answer contradicts the request or itself, so no byte of it was used."""

    code = "origin_protocol_error"
    message = "The origin gave an unusable answer."


class OriginBodyError(OriginProtocolError):
    """The body of an origin answer ended early, ran over, broke or came too slowly."""


class StreamAborted(ConnectionError):
    """A response that had begun cannot be completed; its connection has to be aborted."""
