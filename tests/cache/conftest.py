"""What the tests of the cache share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting


@pytest.fixture
def inner(stored: Mapping[str, bytes]) -> MemoryOrigin:
    origin = MemoryOrigin()
    for key, body in stored.items():
        origin.put(key, body)
    return origin


@pytest.fixture
async def one(tmp_path: Path, inner: MemoryOrigin) -> AsyncIterator[Setting]:
    async with setting(tmp_path, inner) as made:
        yield made
