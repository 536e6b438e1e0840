"""Which blocks are found good, and which are locked to be fetched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rangeserver.cache import claims
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.claims import Claim, claim, release
from tests.cache.files import BLOCK, fill_block, new_file, open_file


@pytest.fixture
def file(tmp_path: Path) -> CacheFile:
    return new_file(tmp_path / "a")


def again(tmp_path: Path) -> CacheFile:
    return open_file(tmp_path / "a")


def flip(file: CacheFile, offset: int) -> None:
    byte = os.pread(file.fileno(), 1, offset)
    os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), offset)


def test_what_others_fetch_is_left_to_them(file: CacheFile, tmp_path: Path) -> None:
    other = again(tmp_path)
    assert claim(file, 1, 3, fetch=True).run == (1, 3)
    assert claim(other, 0, 4, fetch=True).run == (0, 1)
    assert claim(other, 1, 4, fetch=True) == Claim([])
    assert claim(other, 3, 4, fetch=True).run == (3, 4)
    release(file, (1, 3))
    assert claim(other, 1, 4, fetch=True).run == (1, 4)


def test_the_locks_go_with_the_file(file: CacheFile, tmp_path: Path) -> None:
    other = again(tmp_path)
    assert claim(other, 0, 4, fetch=True).run == (0, 4)
    del other
    assert claim(file, 0, 4, fetch=True).run == (0, 4)


@pytest.mark.parametrize("part", ["data", "record"])
def test_a_damaged_block_is_fetched_again(file: CacheFile, part: str) -> None:
    for block in range(4):
        fill_block(file, block)
    at = file.layout.data_offset + BLOCK + 7 if part == "data" else file.layout.record_offset(1) + 5
    flip(file, at)
    assert claim(file, 0, 4, fetch=True) == Claim([0], damaged=1)
    assert list(file.present()) == [(0, 1), (2, 4)]
    assert claim(file, 1, 4, fetch=True) == Claim([], run=(1, 2))
    fill_block(file, 1)
    assert claim(file, 1, 4, fetch=True) == Claim([1, 2, 3])


def test_without_leave_to_fetch_nothing_is_changed(file: CacheFile) -> None:
    fill_block(file, 0)
    flip(file, file.layout.data_offset)
    assert claim(file, 0, 4, fetch=False) == Claim([], damaged=1)
    assert list(file.present()) == [(0, 1)]


def test_no_more_is_checked_at_once_than_a_disk_reads_soon(
    file: CacheFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in range(4):
        fill_block(file, block)
    monkeypatch.setattr(claims, "CHECK_BYTES", 2 * BLOCK)
    assert claim(file, 0, 4, fetch=True).good == [0, 1]
    monkeypatch.setattr(claims, "CHECK_BYTES", 1)
    assert claim(file, 0, 4, fetch=True).good == [0]
