"""What the tests of faults share."""

from __future__ import annotations

import pytest

from tests.faults.logs import SECRET_KEY, SESSION_TOKEN


@pytest.fixture(autouse=True)
def telling_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets that can be told from other words when they turn up in a log."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
