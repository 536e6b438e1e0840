"""The directory that processes share."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rangeserver.cache.directory import Directory
from tests.cache.files import FACTS, PLACE, header


def opened(path: Path) -> Directory:
    directory = Directory(path)
    directory.open()
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return opened(tmp_path / "cache")


def test_a_file_is_found_under_its_place_alone(directory: Directory) -> None:
    assert directory.find(PLACE) is None
    made = directory.create(header())
    found = directory.find(PLACE)
    assert found is not None
    assert (found.header, found.fileno() != made.fileno()) == (header(), True)
    assert directory.find(PLACE + "b") is None
    assert list((directory.path / "new").iterdir()) == []
    assert os.stat(found.fileno()).st_mode & 0o777 == 0o600


def test_the_first_who_makes_it_is_followed_by_all(directory: Directory) -> None:
    directory.create(header())
    other = directory.create(header(replace(FACTS, etag='"v2"')))
    assert other.header.facts.etag == '"v1"'


def the_file(directory: Directory, cache_key: str = PLACE) -> Path:
    return Path(directory.path_of(cache_key))


def the_files(directory: Path) -> list[str]:
    return [path.name for path in (directory / "objects").glob("*/*")]


def test_what_it_was_opened_as_it_stays(directory: Directory, tmp_path: Path) -> None:
    """Another directory in its place is none of ours, whatever it holds."""
    directory.create(header())
    found = list(directory.files())
    old = directory.path.rename(tmp_path / "old")
    shutil.copytree(old, directory.path)
    assert directory.remove(found[0])
    assert [the_files(path) for path in (old, directory.path)] == [[], [found[0].name]]
    directory.open()
    assert directory.remove(found[0])
    assert the_files(directory.path) == []


def test_it_is_made_whole_again(directory: Directory) -> None:
    """By the next to open it, with all processes on the new locks."""
    other = opened(directory.path)
    shutil.rmtree(directory.path)
    with pytest.raises(FileNotFoundError):
        directory.create(header())
    for each in (directory, other):
        each.open()
    directory.create(header())
    assert directory.try_lock_object("a")
    assert not other.try_lock_object("a")


def test_one_process_at_a_time(directory: Directory) -> None:
    other = opened(directory.path)
    assert directory.try_lock_object("a")
    assert not other.try_lock_object("a")
    assert other.try_lock_object("b")
    directory.unlock_object("a")
    assert other.try_lock_object("a")
    other.close()
    assert directory.try_lock_object("b")
    assert directory.free_bytes() > 0
