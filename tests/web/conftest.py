"""What the tests of the HTTP face share."""

from __future__ import annotations

import pytest

from rangeserver.web.exchange import Exchange


@pytest.fixture
def finished() -> list[Exchange]:
    """What an observer that appends here has seen, in order."""
    return []
