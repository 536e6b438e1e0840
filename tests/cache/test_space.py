"""What may still be written of a cache, and how room is made."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rangeserver.cache import space as module
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.directory import Directory
from rangeserver.cache.errors import NoRoom
from rangeserver.cache.limits import Limits
from rangeserver.cache.listing import FileInfo
from rangeserver.cache.space import Space
from tests.cache.files import FACTS, fill_block, header

KIB = 1024
PLENTY = 1 << 50


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """Ten files, the later the younger."""
    made = opened(tmp_path)
    for number in range(10):
        file = made.create(header(FACTS, cache_key=str(number)))
        for block in range(4):
            fill_block(file, block)
        os.utime(file.fileno(), (1000 + number, 1000 + number))
    return made


def opened(path: Path) -> Directory:
    """The directory as another process sees it."""
    directory = Directory(path)
    directory.open()
    return directory


def size(directory: Directory) -> int:
    return sum(found.disk_bytes for found in directory.files())


def space_of(directory: Directory, max_bytes: int = PLENTY, min_free_bytes: int = 0) -> Space:
    space = Space(directory, Limits(max_bytes, min_free_bytes))
    space.count_if_due()
    space.look()
    return space


def free(monkeypatch: pytest.MonkeyPatch, directory: Directory, count: Callable[[], int]) -> None:
    monkeypatch.setattr(directory, "free_bytes", count)


def test_what_is_written_counts_at_once(directory: Directory) -> None:
    total = size(directory)
    space = space_of(directory, total + 100 * KIB)
    assert space.taken == total
    with space.writing(60 * KIB):
        with pytest.raises(NoRoom), space.writing(60 * KIB):
            pass  # while others are writing
        with space.writing(40 * KIB):
            pass
    with pytest.raises(NoRoom), space.writing(1):
        pass
    assert space.look().taken == total + 100 * KIB


def test_what_fails_to_be_written_does_not_count(directory: Directory) -> None:
    space = space_of(directory, size(directory) + 100 * KIB)
    for _ in range(3):
        with pytest.raises(OSError, match="broken"), space.writing(60 * KIB):
            raise OSError(5, "broken")
    assert space.has_room(100 * KIB)


def test_what_other_processes_write_counts(directory: Directory) -> None:
    space = space_of(directory, size(directory) + 100 * KIB)
    other = space_of(opened(directory.path), size(directory) + 100 * KIB)
    with other.writing(60 * KIB):
        pass
    other.look()
    assert space.has_room(40 * KIB)
    assert not space.has_room(41 * KIB)


def test_what_is_to_stay_free_does(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, directory, lambda: 100 * KIB)
    space = space_of(directory, min_free_bytes=60 * KIB)
    with space.writing(30 * KIB):
        with pytest.raises(NoRoom), space.writing(20 * KIB):
            pass
        with space.writing(10 * KIB):
            pass


def test_room_is_made_before_there_is_none(directory: Directory) -> None:
    total = size(directory)
    space = space_of(directory, int(total * 1.1))
    told: list[None] = []
    space.on_pressure = lambda: told.append(None)
    with space.writing(KIB):
        pass
    assert not told
    assert space.reclaim().files == 0
    with space.writing(total // 20):
        pass
    with space.writing(KIB):
        pass
    assert told
    reclaimed = space.reclaim()
    assert (reclaimed.files, reclaimed.disk_bytes) == (1, total // 10)
    assert not reclaimed.short


def test_room_is_made_for_what_is_to_come(directory: Directory) -> None:
    total = size(directory)
    space = space_of(directory, total * 2)
    assert space.reclaim(total).files == 0
    assert space.reclaim(total + 1).files > 0
    assert space.has_room(total + 1)


def test_space_for_others_comes_before_the_limit(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = size(directory) // 10
    before = size(directory)
    free(monkeypatch, directory, lambda: 10 * one + before - size(directory))
    reclaimed = space_of(directory, min_free_bytes=11 * one).reclaim()
    assert (reclaimed.files, reclaimed.short) == (2, False)
    reclaimed = space_of(directory, min_free_bytes=100 * one).reclaim()
    assert (reclaimed.files, reclaimed.short) == (8, True)


def test_a_disk_that_is_full_all_the_same(directory: Directory) -> None:
    assert space_of(directory).reclaim(full=True).files == 1


def test_two_processes_do_not_both_make_the_same_room(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(size(directory) * 0.8)
    one, other = space_of(directory, limit), space_of(opened(directory.path), limit)
    evict = directory.evict

    def both(found: FileInfo) -> int | None:
        other.reclaim()
        return evict(found)

    monkeypatch.setattr(directory, "evict", both)
    one.reclaim()
    assert len(list(directory.files())) == 7


def test_files_are_counted_by_one_process_for_all(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    space_of(directory)
    other = opened(directory.path)
    monkeypatch.setattr(other, "files", None)
    space = space_of(other)
    assert space.taken == size(directory)


def test_files_are_counted_when_those_remembered_are_gone(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EVICTION_FACTOR", 0)
    total = size(directory)
    space = space_of(directory, total * 2)
    assert space.reclaim(total + 1).files == 3
    for number in range(3):
        with space.writing(total // 10):
            file = directory.create(header(FACTS, cache_key=f"new{number}"))
            for block in range(4):
                fill_block(file, block)
    assert len(space._oldest) == 7
    assert space.reclaim(2 * total).files == 10
    assert space.taken == size(directory) == 0


def held(file: CacheFile) -> int:
    return os.fstat(file.fileno()).st_blocks * 512


def test_removed_files_count_as_long_as_they_are_open(directory: Directory) -> None:
    space, total = space_of(directory), size(directory)
    file = directory.find("0")
    assert file is not None
    directory.remove_file("0", file)
    reclaimed = space.reclaim()
    assert (reclaimed.held, reclaimed.given_up) == (1, 0)
    assert space.taken == total
    del file
    assert space.reclaim().held == 0
    assert space.taken == size(directory) < total


def test_two_who_have_a_removed_file_open_count_it_once(directory: Directory) -> None:
    other = opened(directory.path)
    spaces, total = [space_of(directory), space_of(other)], size(directory)
    files = [directory.find("0"), directory.find("0"), other.find("0")]
    assert files[0] is not None
    directory.remove_file("0", files[0])
    for space in spaces * 2:
        space.reclaim()
    assert {space.taken for space in spaces} == {total}
    files[:2] = []
    for space in spaces * 2:
        space.reclaim()
    assert {space.taken for space in spaces} == {total}
    files.clear()
    for space in spaces * 2:
        space.reclaim()
    assert {space.taken for space in spaces} == {size(directory)}


def test_removed_files_are_given_up_where_they_are_too_much(directory: Directory) -> None:
    total = size(directory)
    space = space_of(directory, total)
    file = directory.find("0")
    assert file is not None
    directory.remove_file("0", file)
    reclaimed = space.reclaim()
    assert (reclaimed.files, reclaimed.held, reclaimed.given_up) == (0, 0, 1)
    assert file.gone
    assert not file.is_current()
    assert held(file) == 0
    assert space.taken == size(directory)
    assert os.pread(file.fileno(), 100, 0) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        fill_block(file, 0)


def test_a_count_ends_when_the_cache_is_closed(directory: Directory) -> None:
    space = Space(directory, Limits(PLENTY, 0))
    space.stop()
    with pytest.raises(OSError, match="closed"):
        space.count_if_due()
    assert directory.usage.try_lock_scan()
