"""The directory that processes share."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rangeserver.cache.directory import MARK, Directory, place_of, used_now
from rangeserver.cache.header import NotOurs
from tests.cache.small_files import FACTS, PLACE, header


def opened(path: Path) -> Directory:
    directory = Directory(path)
    directory.open()
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return opened(tmp_path / "cache")


def test_names_of_objects() -> None:
    assert place_of("http://s3/", "films", "a b") == "http://s3 films a b"
    assert place_of("", "films", "a") == "aws films a"


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


def test_what_is_none_of_ours_is_removed(directory: Directory) -> None:
    directory.create(header())
    (path,) = [Path(found.path) for found in directory.files()]
    path.write_bytes(b"?")
    with pytest.raises(NotOurs):
        directory.find(PLACE)
    assert directory.find(PLACE) is None
    directory.create(header())
    directory.create(header(place="other"))
    (other,) = [found.path for found in directory.files() if found.path != str(path)]
    shutil.copy(other, path)
    with pytest.raises(NotOurs, match="another object"):
        directory.find(PLACE)
    assert not path.exists()


def test_only_the_very_file_is_removed(directory: Directory) -> None:
    old = directory.create(header())
    assert directory.remove_file(PLACE, old)
    assert not directory.remove_file(PLACE, old)
    new = directory.create(header())
    assert not directory.remove_file(PLACE, old)
    assert directory.find(PLACE) is not None
    assert directory.remove_file(PLACE, new)


def test_files_that_are_not_ours_are_neither_listed_nor_removed(directory: Directory) -> None:
    made = directory.create(header())
    used_now(made)
    (directory.path / "objects" / "notes").write_text("mine")
    (directory.path / "objects" / "ab").mkdir(exist_ok=True)
    (directory.path / "objects" / "ab" / "notes.rsc").write_text("mine")
    (found,) = directory.files()
    assert abs(found.used - time.time()) < 5
    assert 0 < found.disk_bytes < 16384
    assert directory.opened(found).header == header()


def test_files_of_makers_that_died_go(directory: Directory) -> None:
    old, new = directory.path / "new" / "1-a", directory.path / "new" / "1-b"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    directory.remove_abandoned()
    assert (old.exists(), new.exists()) == (False, True)


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(OSError, match="other files"):
        opened(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["letters"]
    (tmp_path / "letters").rmdir()
    (tmp_path / "lost+found").mkdir()
    opened(tmp_path)
    assert (tmp_path / MARK).exists()


def test_it_is_made_whole_again(directory: Directory) -> None:
    """By the next to open it, with all processes on the new locks."""
    other = opened(directory.path)
    shutil.rmtree(directory.path)
    with pytest.raises(FileNotFoundError):
        directory.create(header())
    for each in (directory, other):
        each.open()
    directory.create(header())
    assert directory.try_lock_place("a")
    assert not other.try_lock_place("a")


def test_one_process_at_a_time(directory: Directory) -> None:
    other = opened(directory.path)
    assert directory.try_lock_place("a")
    assert not other.try_lock_place("a")
    assert other.try_lock_place("b")
    assert directory.try_become_janitor()
    assert not other.try_become_janitor()
    directory.be_janitor_no_longer()
    assert other.try_become_janitor()
    directory.unlock_place("a")
    assert other.try_lock_place("a")
    other.close()
    assert directory.try_become_janitor()
    assert directory.free_bytes() > 0
