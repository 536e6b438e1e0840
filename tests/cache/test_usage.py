"""What a cache takes of the disk, kept by all its processes: here of one process, opened apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from rangeserver.cache import usage as module
from rangeserver.cache.usage import SharedUsage

Opening = Callable[[], tuple[SharedUsage, IO[bytes]]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opening]:
    """Opens the file as another process would; with the file, whose closing ends that."""
    with ExitStack() as stack:

        def opened() -> tuple[SharedUsage, IO[bytes]]:
            (tmp_path / "mark").touch()
            file = stack.enter_context((tmp_path / "mark").open("r+b", buffering=0))
            return SharedUsage(file.fileno()), file

        yield opened


def named(usage: SharedUsage) -> int:
    taken = usage.read()
    assert taken is not None
    return taken.named


def held(usage: SharedUsage) -> int:
    taken = usage.read()
    assert taken is not None
    return taken.held


def test_nothing_is_known_before_the_first_count(opened: Opening) -> None:
    usage, _ = opened()
    usage.add(5)
    assert usage.read() is None
    assert usage.recount(lambda: 100) == 100
    assert named(usage) == 100  # what was found has the 5 in it


def test_what_each_adds_all_see(opened: Opening) -> None:
    one, _ = opened()
    other, _ = opened()
    one.recount(lambda: 100)
    one.add(10)
    other.add(-30)
    assert named(one) == 110
    assert named(other) == 80
    one.flush()
    assert named(other) == named(one) == 80


def test_what_a_process_wrote_stays_counted_when_it_has_ended(opened: Opening) -> None:
    one, file = opened()
    one.recount(lambda: 100)
    one.add(10)
    one.hold(7)
    file.close()
    other, _ = opened()  # in the slot of the one before
    assert (named(other), held(other)) == (110, 0)
    other.add(1)
    assert named(other) == 111


def test_what_a_process_held_is_free_when_it_has_ended(opened: Opening) -> None:
    first, _ = opened()
    first.recount(lambda: 0)
    second, file = opened()
    second.hold(7)
    third, _ = opened()
    third.hold(5)
    first.forget_the_dead()
    assert held(first) == 12
    file.close()
    assert held(first) == 12
    first.forget_the_dead()
    assert held(first) == 5


def test_what_comes_during_a_count_is_taken_to_be_seen_in_part(opened: Opening) -> None:
    one, _ = opened()
    other, _ = opened()

    def count() -> int:
        other.add(10)
        other.flush()
        return 105

    one.recount(count)
    assert named(one) == 110


def test_too_many_processes_count_late(opened: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOTS", 1)
    one, _ = opened()
    one.recount(lambda: 100)
    other, _ = opened()
    other.add(10)
    other.hold(5)
    assert (named(one), named(other), held(other)) == (100, 110, 5)


def test_one_who_may_only_read_can(opened: Opening, tmp_path: Path) -> None:
    one, _ = opened()
    one.recount(lambda: 100)
    descriptor = os.open(tmp_path / "mark", os.O_RDONLY)
    assert named(SharedUsage(descriptor)) == 100
    os.close(descriptor)


def test_what_else_is_in_the_file_stays(opened: Opening, tmp_path: Path) -> None:
    (tmp_path / "mark").write_bytes(b"a cache\n")
    one, _ = opened()
    one.recount(lambda: 100)
    assert (tmp_path / "mark").read_bytes().startswith(b"a cache\n")


def test_one_process_at_a_time_counts_the_files(opened: Opening) -> None:
    (first, _), (second, _) = opened(), opened()
    assert first.try_lock_scan()
    assert not second.try_lock_scan()
    first.unlock_scan()
    assert second.try_lock_scan()
