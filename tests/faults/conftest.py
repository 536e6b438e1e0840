"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.invariants import USUALLY
from tests.faults.logs import SECRET_KEY, SESSION_TOKEN


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
