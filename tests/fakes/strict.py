"""Origins that look at who asks: at the clock of the signature, at how long a token is good."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.fakes.faults import Answer, error_answer
from tests.fakes.s3 import FakeS3, SeenRequest

_ALLOWED_SKEW_SECONDS = 15 * 60.0
"""S3 refuses a request whose clock is further off."""


@dataclass(slots=True, eq=False)
class ClockedS3(FakeS3):
    """Refuses signatures of another time than its own, as S3 does."""

    def _answer(self, request: SeenRequest) -> Answer:
        signed = datetime.strptime(request.headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
        skew = datetime.now(UTC) - signed
        if abs(skew.total_seconds()) > _ALLOWED_SKEW_SECONDS:
            return error_answer(403, "RequestTimeTooSkewed")
        return FakeS3._answer(self, request)


class Everybody(set[str]):
    """All there are, and all there will be."""

    def __contains__(self, _: object) -> bool:
        return True


@dataclass(slots=True, eq=False)
class ExpiringS3(FakeS3):
    """Takes the keys of anybody but those that have expired."""

    expired: set[str] = field(default_factory=set)
    """Access keys."""

    def _answer(self, request: SeenRequest) -> Answer:
        if access_key(request) in self.expired:
            return error_answer(400, "ExpiredToken")
        return FakeS3._answer(self, request)


@dataclass(slots=True, eq=False)
class SigningS3(FakeS3):
    """Computes the signature of what came over the wire by itself, as S3 does."""

    secret: str = "test"

    def _answer(self, request: SeenRequest) -> Answer:
        if signature_of(request) != expected_signature(request, self.secret):
            return error_answer(403, "SignatureDoesNotMatch")
        return FakeS3._answer(self, request)


_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/(?P<scope>[^,]+), "
    r"SignedHeaders=(?P<signed>[^,]+), Signature=(?P<signature>[0-9a-f]{64})"
)


def _authorization(request: SeenRequest) -> re.Match[str]:
    match = _AUTHORIZATION.fullmatch(request.headers["authorization"])
    assert match is not None, request.headers["authorization"]
    return match


def signature_of(request: SeenRequest) -> str:
    """The signature that a request came with."""
    return _authorization(request)["signature"]


def signed_headers(request: SeenRequest) -> set[str]:
    """The names of the header fields that its signature covers."""
    return set(_authorization(request)["signed"].split(";"))


def expected_signature(request: SeenRequest, secret: str) -> str:
    """The signature that a request must have: Signature Version 4, without normalization of the
    path, as for S3 (AWS: "Create a signed AWS API request").
    """
    found = _authorization(request)
    path, _, query = request.path.partition("?")
    lines = [f"{name}:{request.headers[name]}" for name in found["signed"].split(";")]
    canonical = "\n".join(
        [
            *(request.method, path, "&".join(sorted(query.split("&"))), *lines, ""),
            *(found["signed"], request.headers["x-amz-content-sha256"]),
        ]
    )
    day, region, service, end = found["scope"].split("/")
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, end):
        key = hmac.digest(key, part.encode(), "sha256")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    told = f"AWS4-HMAC-SHA256\n{request.headers['x-amz-date']}\n{found['scope']}\n{digest}"
    return hmac.digest(key, told.encode(), "sha256").hex()


def access_key(request: SeenRequest) -> str:
    """The one that a request is signed with."""
    _, _, scope = request.headers["authorization"].partition("Credential=")
    return scope.partition("/")[0]
