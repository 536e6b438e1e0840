"""What the tests of faults share."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from aiohttp.abc import ResolveResult
from aiohttp.resolver import DefaultResolver

from tests.faults.invariants import USUALLY
from tests.faults.logs import SECRET_KEY, SESSION_TOKEN
from tests.faults.names import Names


@pytest.fixture(autouse=True)
def telling_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets that can be told from other words when they turn up in a log."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)


@pytest.fixture(params=["past", "cached"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """The way of a response: past the cache, or through it, which has nothing of the object."""
    if request.param == "cached":
        USUALLY["cache"] = {"block_bytes": 4 << 20, "ttl_seconds": 0}
    yield request.param
    USUALLY["cache"] = None


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()

    async def resolve(
        resolver: object, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        return await names.resolve(resolver, host, port, family)

    monkeypatch.setattr(DefaultResolver, "resolve", resolve)
    return names
