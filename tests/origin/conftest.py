"""What the tests of the origin share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fakes.s3 import FakeS3
from tests.support import service_models_read_once


@pytest.fixture(autouse=True, scope="session")
def cheap_clients() -> Iterator[None]:
    with service_models_read_once():
        yield


@pytest.fixture
async def fake() -> AsyncIterator[FakeS3]:
    async with FakeS3() as origin:
        yield origin
