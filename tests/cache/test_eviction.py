"""What goes when the cache is full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rangeserver.cache.directory import Directory
from rangeserver.cache.eviction import Limits, sweep
from tests.cache.small_files import FACTS, fill_block, header

PLENTY = 1 << 50


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """Ten files, the later the younger."""
    made = Directory(tmp_path)
    made.open()
    for number in range(10):
        file = made.create(header(FACTS, place=str(number)))
        for block in range(4):
            fill_block(file, block)
        os.utime(file.fileno(), (1000 + number, 1000 + number))
    return made


def size(directory: Directory) -> int:
    return sum(found.disk_bytes for found in directory.files())


def left(directory: Directory) -> list[str]:
    return [str(n) for n in range(10) if directory.find(str(n)) is not None]


def test_below_the_limit_all_stays(directory: Directory) -> None:
    swept = sweep(directory, Limits(PLENTY, 0))
    assert swept is not None
    assert (swept.files, swept.removed, swept.disk_bytes) == (10, 0, size(directory))
    assert not swept.short_of_space


def test_above_it_the_oldest_go_until_there_is_a_margin(directory: Directory) -> None:
    total = size(directory)
    swept = sweep(directory, Limits(total, 0))  # full to the brim: above the high water
    assert swept is not None
    assert (swept.removed, left(directory)) == (1, [str(n) for n in range(1, 10)])
    assert swept.disk_bytes == size(directory) <= total * 0.9
    swept = sweep(directory, Limits(total // 2, 0))
    assert swept is not None
    assert left(directory) == [str(n) for n in range(6, 10)]


def test_what_was_used_again_stays(directory: Directory) -> None:
    file = directory.find("0")
    assert file is not None
    os.utime(file.fileno())
    sweep(directory, Limits(size(directory), 0))
    assert "0" in left(directory)
    assert "1" not in left(directory)


def test_space_for_others_comes_before_the_limit(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = size(directory) // 10
    monkeypatch.setattr(directory, "free_bytes", lambda: 10 * one)
    swept = sweep(directory, Limits(PLENTY, 11 * one))
    assert swept is not None
    assert (swept.removed, swept.short_of_space) == (2, False)
    swept = sweep(directory, Limits(PLENTY, 100 * one))
    assert swept is not None
    assert (swept.files, swept.short_of_space) == (0, True)


def test_a_disk_that_is_full_all_the_same(directory: Directory) -> None:
    swept = sweep(directory, Limits(PLENTY, 0), full=True)
    assert swept is not None
    assert swept.removed == 1


def test_one_at_a_time(directory: Directory) -> None:
    other = Directory(directory.path)
    other.open()
    assert other.try_become_janitor()
    assert sweep(directory, Limits(0, 0)) is None
    other.be_janitor_no_longer()
    assert sweep(directory, Limits(0, 0)) is not None
    assert other.try_become_janitor()
