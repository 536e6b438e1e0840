"""What the tests of the origin share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import service_models_read_once


@pytest.fixture(autouse=True, scope="session")
def cheap_clients() -> Iterator[None]:
    with service_models_read_once():
        yield
