"""Why there is no answer, where the library's error does not say."""

from __future__ import annotations

import pytest

from rangeserver.errors import (
    AccessDenied,
    OriginError,
    OriginServerError,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.origin.obstacles import explained
from tests.fakes.s3 import FakeS3


def silent() -> OriginTimeout:
    """A connection came about, and no TLS over it."""
    error = OriginTimeout()
    error.connecting = True
    return error


async def test_who_waits_for_the_end_of_a_request_speaks_http(fake: FakeS3) -> None:
    found = await explained(silent(), fake.endpoint_url.replace("http", "https"))
    assert found is not None
    assert found.found == "this port speaks plain HTTP, and origin.endpoint_url says https"
    assert await explained(silent(), fake.endpoint_url) is None


async def test_who_speaks_what_the_scheme_says_is_not_blamed_for_it(fake: FakeS3) -> None:
    assert await explained(OriginUnreachable(), fake.endpoint_url) is None


@pytest.mark.parametrize("error", [AccessDenied(), OriginServerError(), OriginTimeout()])
async def test_who_has_answered_is_not_asked(fake: FakeS3, error: OriginError) -> None:
    assert await explained(error, fake.endpoint_url) is None
    assert await explained(error, fake.endpoint_url.replace("http", "https")) is None
    assert fake.requests == []


@pytest.mark.parametrize("url", ["", "https://127.0.0.1:1"])
async def test_nobody_can_be_asked(url: str) -> None:
    """AWS needs no asking; where nothing listens there is none to ask."""
    assert await explained(silent(), url) is None
