"""Which files go first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rangeserver.cache import eviction as module
from rangeserver.cache.directory import Directory
from rangeserver.cache.eviction import Oldest
from tests.cache.small_files import FACTS, fill_block, header


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


def test_the_oldest_go_first(directory: Directory) -> None:
    oldest, total = Oldest(directory), size(directory)
    assert oldest.count() == total
    assert [oldest.evict() for _ in range(2)] == [total // 10] * 2
    assert left(directory) == [str(n) for n in range(2, 10)]
    assert len(oldest) == 8


def test_what_was_used_again_stays(directory: Directory) -> None:
    oldest = Oldest(directory)
    oldest.count()
    file = directory.find("0")
    assert file is not None
    os.utime(file.fileno())
    assert oldest.evict() is None
    assert oldest.evict() is not None
    assert left(directory)[:2] == ["0", "2"]


def test_what_others_have_removed_counts_for_nothing(directory: Directory) -> None:
    oldest = Oldest(directory)
    oldest.count()
    file = directory.find("0")
    assert file is not None
    directory.remove_file("0", file)
    assert oldest.evict() is None


def test_no_more_is_remembered_than_that(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    oldest, total = Oldest(directory), size(directory)
    assert oldest.count() == total
    assert len(oldest) == 3
    for _ in range(3):
        oldest.evict()
    assert left(directory) == [str(n) for n in range(3, 10)]


def test_removals_are_taken_off_the_tally(directory: Directory) -> None:
    oldest, total = Oldest(directory), size(directory)
    directory.tally.recount(oldest.count)
    oldest.evict()
    file = directory.find("5")
    assert file is not None
    directory.remove_file("5", file)
    by_hand = Directory(directory.path)  # as the commands on the cache have it
    assert by_hand.remove(next(by_hand.files()))
    taken = directory.tally.read()
    assert taken is not None
    assert taken.named == size(directory) == total * 7 // 10


def test_a_count_makes_pauses(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILES_AT_A_TIME", 5)
    pauses: list[None] = []
    Oldest(directory).count(lambda: pauses.append(None))
    assert len(pauses) == 2
