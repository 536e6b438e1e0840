"""What is listed in a cache directory."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from rangeserver.cache.directory import Directory
from tests.cache.files import PLACE, fill_block, header


def opened(path: Path) -> Directory:
    directory = Directory(path)
    directory.open()
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return opened(tmp_path / "cache")


def the_file(directory: Directory, cache_key: str = PLACE) -> Path:
    return Path(directory.path_of(cache_key))


def test_files_that_are_not_ours_are_neither_listed_nor_removed(directory: Directory) -> None:
    made = directory.create(header())
    made.touch()
    (directory.path / "objects" / "notes").write_text("mine")
    (directory.path / "objects" / "ab").mkdir(exist_ok=True)
    (directory.path / "objects" / "ab" / "notes.rsc").write_text("mine")
    shutil.copy(the_file(directory), directory.path / "objects" / "ab" / ("f" * 40 + ".rsc"))
    (found,) = directory.files()
    assert abs(found.used - time.time()) < 5
    assert 0 < found.disk_bytes < 16384
    assert directory.open_listed(found).header == header()


def test_whether_a_file_was_reused_stands_on_it(directory: Directory) -> None:
    made = directory.create(header())
    (found,) = directory.files()
    assert not found.reused
    os.utime(made.fileno(), (1000, 1000))
    made.mark_reused()
    fill_block(made, 0)
    (found,) = Directory(directory.path).files()
    assert found.reused
    assert abs(found.used - time.time()) < 5
