"""Why there is no answer, in words for the person who set up the origin.

Libraries put the reason at the end of a chain of their own errors, in OpenSSL's words. And some
failures look the same until one has tried what else the port speaks.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from botocore.exceptions import BotoCoreError

from rangeserver.errors import (
    OriginError,
    OriginProtocolError,
    OriginTimeout,
    OriginUnreachable,
    UnclearRefusal,
)

_UNCLEAR = (OriginProtocolError, OriginUnreachable, UnclearRefusal)
_HTTP = b"HTTP/"
_SECONDS = 3.0
"""The deadline for finding out what a port speaks."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What is wrong, and what can be done about it."""

    found: str
    advice: str


_ENDPOINT = "check origin.endpoint_url"
_CLOCK = "have the certificate renewed, or set the clock of this machine (NTP)"
_NAME = "write the name that the certificate is for in origin.endpoint_url"

_EXPIRED = Obstacle("its TLS certificate has expired", _CLOCK)
_NOT_YET = Obstacle("its TLS certificate is not valid yet", _CLOCK)
_UNKNOWN_ISSUER = Obstacle(
    "its TLS certificate is from an authority that this machine does not know",
    "name a file with the authority's certificate (PEM) in AWS_CA_BUNDLE, or as ca_bundle of the "
    "profile",
)
_NO_TLS = Obstacle("what listens there does not speak TLS", _ENDPOINT)
_NEITHER = Obstacle("what listens there speaks neither TLS nor HTTP", _ENDPOINT)
_NO_HTTP = Obstacle("what listens there does not speak HTTP", _ENDPOINT)
_PLAIN_HTTP = Obstacle(
    "this port speaks plain HTTP, and origin.endpoint_url says https",
    "write http in origin.endpoint_url, or the port for TLS",
)
_TLS = Obstacle(
    "this port speaks TLS, and origin.endpoint_url says http",
    "write https in origin.endpoint_url, or the port for plain HTTP",
)

# X509_V_ERR_… of OpenSSL (x509_vfy.h).
_BY_CERTIFICATE = {
    2: _UNKNOWN_ISSUER,
    9: _NOT_YET,
    10: _EXPIRED,
    18: _UNKNOWN_ISSUER,
    19: _UNKNOWN_ISSUER,
    20: _UNKNOWN_ISSUER,
    21: _UNKNOWN_ISSUER,
}
_OTHER_HOST = {62, 64}

_NOT_OF_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
"""OpenSSL's reasons for what is no TLS."""


def obstacle(error: BaseException | None) -> Obstacle | None:
    """Why there is no connection, if a library's error says so."""
    reason = _bottom(error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _of_certificate(reason)
    if isinstance(reason, ssl.SSLError):
        if reason.reason in _NOT_OF_TLS:
            return _NO_TLS
        return Obstacle(f"TLS fails ({reason.reason or reason})", _ENDPOINT)
    if isinstance(reason, socket.gaierror):
        return Obstacle("the host name is not found", f"{_ENDPOINT} and DNS")
    if isinstance(reason, OSError) and not isinstance(reason, TimeoutError | aiohttp.ClientError):
        advice = f"does it run, and listen on this port? {_ENDPOINT}"
        return Obstacle(reason.strerror or "the connection is closed at once", advice)
    return None


async def explained(error: OriginError, endpoint_url: str) -> Obstacle | None:
    """The same for an error of ours. If it does not say, the port is asked what it speaks."""
    found = obstacle(error.__cause__)
    parts = urlsplit(endpoint_url)
    host = parts.hostname or ""
    if parts.scheme == "https" and (found is _NO_TLS or _is_silent(error)):
        if await _speaks_http(host, parts.port or 443):
            return _PLAIN_HTTP
        return None if found is None else _NEITHER
    if parts.scheme == "http" and found is None and isinstance(error, _UNCLEAR):
        port = parts.port or 80
        # First: many servers answer plain HTTP on their TLS port, with an error.
        if await _speaks_tls(host, port):
            return _TLS
        return None if await _speaks_http(host, port) else _NO_HTTP
    return found


def _is_silent(error: OriginError) -> bool:
    """Whether a server may be waiting there for the end of what it takes for a request."""
    return isinstance(error, OriginTimeout) and error.connecting


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only the protocol matters here
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLEOFError:
        return False
    except ssl.SSLError as error:  # refused by TLS
        return error.reason not in _NOT_OF_TLS
    except OSError:
        return False
    writer.transport.abort()
    return True


async def _speaks_http(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"HEAD / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
                return await reader.readexactly(len(_HTTP)) == _HTTP
            finally:
                writer.transport.abort()
    except (OSError, asyncio.IncompleteReadError):
        return False


def _of_certificate(error: ssl.SSLCertVerificationError) -> Obstacle:
    if error.verify_code in _OTHER_HOST:
        return Obstacle(f"its TLS certificate is for another host ({error.verify_message})", _NAME)
    known = _BY_CERTIFICATE.get(error.verify_code)
    return known or Obstacle(
        f"its TLS certificate is not accepted: {error.verify_message}", _ENDPOINT
    )


def _bottom(error: BaseException | None) -> BaseException | None:
    """The innermost error of those of the libraries."""
    while True:
        inner: BaseException | None = None
        if isinstance(error, BotoCoreError):
            inner = error.kwargs.get("error")
        elif isinstance(error, aiohttp.ClientConnectorCertificateError):
            inner = error.certificate_error
        elif isinstance(error, aiohttp.ClientConnectorError):
            inner = error.os_error
        if inner is None:
            return error
        error = inner
