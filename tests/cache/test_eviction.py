"""Which files go first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rangeserver.cache import eviction as module
from rangeserver.cache.directory import Directory
from rangeserver.cache.eviction import EvictionCandidates
from tests.cache.files import FACTS, fill_block, header


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """Ten files, the later the younger."""
    made = Directory(tmp_path)
    made.open()
    for number in range(10):
        file = made.create(header(FACTS, cache_key=str(number)))
        for block in range(4):
            fill_block(file, block)
        os.utime(file.fileno(), (1000 + number, 1000 + number))
    return made


def size(directory: Directory) -> int:
    return sum(found.disk_bytes for found in directory.files())


def left(directory: Directory) -> list[str]:
    return [str(n) for n in range(10) if directory.find(str(n)) is not None]


def test_the_oldest_go_first(directory: Directory) -> None:
    oldest, total = EvictionCandidates(directory), size(directory)
    assert oldest.count() == total
    assert [oldest.evict(0) for _ in range(2)] == [total // 10] * 2
    assert left(directory) == [str(n) for n in range(2, 10)]
    assert len(oldest) == 8


def reuse(directory: Directory, *numbers: int) -> None:
    """Have files read again, and be used when they were before."""
    for number in numbers:
        file = directory.find(str(number))
        assert file is not None
        before = os.fstat(file.fileno()).st_mtime
        file.mark_reused()
        os.utime(file.fileno(), (before, before))


def gone(directory: Directory, oldest: EvictionCandidates, count: int) -> list[str]:
    """Which files go, one after another."""
    order = []
    for _ in range(count):
        before = left(directory)
        assert oldest.is_known(size(directory))
        oldest.evict(size(directory))
        (name,) = set(before) - set(left(directory))
        order.append(name)
    return order


def test_what_was_not_reused_goes_first_while_it_takes_more_than_its_share(
    directory: Directory,
) -> None:
    reuse(directory, 0, 1, 2, 3, 4, 5)
    oldest = EvictionCandidates(directory)
    oldest.count()
    # 4 of 10, 3 of 9 and 2 of 7 are more than a quarter; 2 of 8 and 1 of 6 are not.
    assert gone(directory, oldest, 5) == ["6", "7", "0", "8", "1"]


def test_within_its_share_what_is_oldest_goes(directory: Directory) -> None:
    reuse(directory, *range(1, 9))
    oldest = EvictionCandidates(directory)
    oldest.count()
    assert gone(directory, oldest, 4) == ["0", "1", "2", "3"]


def test_what_came_since_the_count_is_taken_for_not_reused(directory: Directory) -> None:
    """It has to be counted before anything else goes."""
    reuse(directory, *range(8))
    oldest = EvictionCandidates(directory)
    taken = oldest.count()
    for _ in range(2):
        assert oldest.is_known(2 * taken)
        oldest.evict(2 * taken)
    assert left(directory) == [str(n) for n in range(8)]
    assert not oldest.is_known(2 * taken)
    assert oldest.is_known(size(directory))
    assert oldest.evict(2 * taken) is not None  # if there is nothing else, the oldest


def test_what_was_used_again_stays(directory: Directory) -> None:
    oldest = EvictionCandidates(directory)
    oldest.count()
    file = directory.find("0")
    assert file is not None
    os.utime(file.fileno())
    assert oldest.evict(0) is None
    assert oldest.evict(0) is not None
    assert left(directory)[:2] == ["0", "2"]


def test_what_others_have_removed_counts_for_nothing(directory: Directory) -> None:
    oldest = EvictionCandidates(directory)
    oldest.count()
    file = directory.find("0")
    assert file is not None
    directory.remove_file("0", file)
    assert oldest.evict(0) is None


def test_no_more_is_remembered_than_that(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    oldest, total = EvictionCandidates(directory), size(directory)
    assert oldest.count() == total
    assert len(oldest) == 3
    for _ in range(3):
        oldest.evict(0)
    assert left(directory) == [str(n) for n in range(3, 10)]


def test_removals_are_taken_off_the_usage(directory: Directory) -> None:
    oldest, total = EvictionCandidates(directory), size(directory)
    directory.usage.recount(oldest.count)
    oldest.evict(0)
    file = directory.find("5")
    assert file is not None
    directory.remove_file("5", file)
    by_hand = Directory(directory.path)  # as the commands on the cache have it
    assert by_hand.remove(next(by_hand.files()))
    taken = directory.usage.read()
    assert taken is not None
    assert taken.named == size(directory) == total * 7 // 10


def test_a_count_makes_pauses(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILES_AT_A_TIME", 5)
    pauses: list[None] = []
    EvictionCandidates(directory).count(lambda: pauses.append(None))
    assert len(pauses) == 2
