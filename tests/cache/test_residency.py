"""Whether bytes are in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rangeserver.cache.residency import by_cachestat, by_probing

MIB = 1 << 20
WAYS = [way for way in (by_cachestat(), by_probing) if way is not None]


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    path = tmp_path / "a"
    path.write_bytes(bytes(2 * MIB + 100))
    return os.open(path, os.O_RDWR)


@pytest.mark.parametrize("resident", WAYS)
def test_what_was_just_written_is_and_what_was_dropped_is_not(
    descriptor: int, resident: Callable[[int, int, int], bool]
) -> None:
    assert resident(descriptor, 0, 2 * MIB + 100)
    assert resident(descriptor, 5000, 1)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(descriptor, 0, 2 * MIB + 100):
        pytest.skip("a file system that keeps all in memory")
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(descriptor, 4096, 8192)
    assert resident(descriptor, 8192, 4096)
    assert not resident(descriptor, 8192, 2 * MIB - 8192)
    os.pread(descriptor, 2 * MIB + 100, 0)
    assert resident(descriptor, 0, 2 * MIB + 100)
    os.close(descriptor)


@pytest.mark.parametrize("resident", WAYS)
def test_no_descriptor_is_an_error(resident: Callable[[int, int, int], bool]) -> None:
    with pytest.raises(OSError, match="Bad file"):
        resident(-1, 0, 10)
