"""What the tests of faults share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rangeserver.process.loop import new_event_loop
from tests.faults.logs import SECRET_KEY, SESSION_TOKEN


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of production."""
    return {"uvloop": new_event_loop}


@pytest.fixture(autouse=True)
def telling_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets that can be told from other words when they turn up in a log."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
