"""What one process knows of a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rangeserver.cache import entry as module
from rangeserver.cache.entry import Entry
from tests.cache.files import BLOCK, DATA, new_file
from tests.origin.clock import Clock

SIZE = len(DATA)


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return Entry("a", new_file(tmp_path / "a"))


def coming(first: int, stop: int, filled_to: int) -> Any:
    return SimpleNamespace(first=first, stop=stop, filled_to=filled_to)


def test_nothing_is_known_at_first(entry: Entry) -> None:
    assert entry.available(0, SIZE) == 0
    assert entry.available(5, SIZE) == 5
    assert (entry.next_missing(0, 4), entry.missing_run(0, 4)) == (0, 4)


def test_whole_blocks_can_be_read(entry: Entry) -> None:
    entry.has(0)
    entry.has(1)
    entry.has(3)
    assert entry.available(5, SIZE) == 2 * BLOCK
    assert entry.available(5, 10) == 10
    assert entry.available(2 * BLOCK + 1, SIZE) == 2 * BLOCK + 1
    assert entry.available(3 * BLOCK, SIZE) == SIZE
    assert (entry.next_missing(0, 4), entry.next_missing(3, 4)) == (2, None)
    assert entry.missing_run(2, 4) == 3
    entry.doubt(0, 2)
    assert entry.available(5, SIZE) == 5


def test_and_what_a_fill_has_written(entry: Entry) -> None:
    entry.has(0)
    entry.filling[1] = entry.filling[2] = coming(1, 3, BLOCK + 100)
    assert entry.available(5, SIZE) == BLOCK + 100
    assert entry.available(5, BLOCK + 50) == BLOCK + 50
    assert entry.available(BLOCK + 99, SIZE) == BLOCK + 100
    assert entry.available(BLOCK + 500, SIZE) == BLOCK + 500
    assert entry.available(2 * BLOCK, SIZE) == 2 * BLOCK
    assert entry.missing_run(3, 4) == 4
    assert entry.missing_run(0, 4) == 0


def test_it_is_reused_once_a_block_of_it_was_read_again(entry: Entry) -> None:
    assert not entry.is_reused_by(BLOCK - 1)
    assert not entry.reused
    assert entry.is_reused_by(1)
    assert entry.reused
    assert not entry.is_reused_by(BLOCK)  # that is known


def test_what_is_read_while_it_is_new_makes_it_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    entry = Entry("a", new_file(tmp_path / "new"), new=True)
    assert not entry.is_reused_by(10 * BLOCK)
    clock.now += module._YOUNG_SECONDS
    assert not entry.is_reused_by(1)
    assert entry.is_reused_by(BLOCK)


def test_use_is_noted_now_and_then(entry: Entry) -> None:
    assert entry.due_to_be_touched()
    assert not entry.due_to_be_touched()


def test_whether_it_is_current_need_not_be_looked_at_each_time(
    entry: Entry, tmp_path: Path
) -> None:
    assert entry.is_current()
    (tmp_path / "a").unlink()
    assert entry.is_current(60.0)
    assert not entry.is_current()
    assert not entry.is_current(60.0)
