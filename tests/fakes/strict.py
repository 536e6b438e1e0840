"""Origins that look at who asks: at the clock of the signature, at how long a token is good."""

from __future__ import annotations

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


@dataclass(slots=True, eq=False)
class ExpiringS3(FakeS3):
    """Takes the keys of anybody but those that have expired."""

    expired: set[str] = field(default_factory=set)
    """Access keys."""

    def _answer(self, request: SeenRequest) -> Answer:
        if access_key(request) in self.expired:
            return error_answer(400, "ExpiredToken")
        return FakeS3._answer(self, request)


def access_key(request: SeenRequest) -> str:
    """The one that a request is signed with."""
    _, _, scope = request.headers["authorization"].partition("Credential=")
    return scope.partition("/")[0]
