"""The directory that processes share."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rangeserver.cache.directory import Directory, FileInfo, reused, touch
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile
from rangeserver.cache.header import pack_header
from rangeserver.cache.limits import Limits
from rangeserver.cache.purging import purge_all
from rangeserver.cache.space import Space
from tests.cache.files import FACTS, PLACE, fill_block, header
from tests.faults.tools import needs

AS_ROOT = needs(root=True)


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


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def never_written(path: Path) -> None:
    """As a machine that went down leaves it: a length, and no data."""
    length = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, length)


def cut_off(path: Path) -> None:
    os.truncate(path, 100)


def of_another_object(path: Path) -> None:
    directory = opened(path.parents[2])
    directory.create(header(cache_key="other"))
    shutil.copy(the_file(directory, "other"), path)


@pytest.mark.parametrize("change", [emptied, never_written, cut_off, of_another_object])
def test_what_was_ours_and_is_damaged_is_removed(
    directory: Directory, change: Callable[[Path], None]
) -> None:
    directory.create(header())
    change(the_file(directory))
    with pytest.raises(InvalidCacheFile):
        directory.find(PLACE)
    assert directory.find(PLACE) is None
    directory.create(header())


def somebody_elses_words(path: Path) -> None:
    path.write_text("mine")


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link_to_another_of_ours(path: Path) -> None:
    directory = opened(path.parents[2])
    directory.create(header(cache_key="other"))
    path.symlink_to(the_file(directory, "other"))


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def another_users(path: Path) -> None:
    directory = opened(path.parents[2])
    directory.create(header(cache_key="other"))
    shutil.copy(the_file(directory, "other"), path)
    os.chown(path, 4242, -1)


FOREIGN = [
    *(somebody_elses_words, a_directory, a_link_to_another_of_ours, a_link_to_nothing, a_pipe),
    pytest.param(another_users, marks=AS_ROOT),
]


@pytest.mark.parametrize("change", FOREIGN)
def test_what_was_never_ours_stays(directory: Directory, change: Callable[[Path], None]) -> None:
    """Whatever is done, and though it has the name of ours."""
    made = directory.create(header())
    path = the_file(directory)
    path.unlink()
    change(path)
    before = path.lstat()
    with pytest.raises(ForeignFile):
        directory.find(PLACE)
    with pytest.raises(ForeignFile):
        directory.create(header())
    assert not directory.remove_file(PLACE, made)
    assert not directory.remove(FileInfo(path.name, 0, 0.0))
    purge_all(directory)
    Space(directory, Limits(0, 1 << 60)).relieve()
    assert os.path.samestat(path.lstat(), before)
    assert list((directory.path / "new").iterdir()) == []


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
    touch(made)
    (directory.path / "objects" / "notes").write_text("mine")
    (directory.path / "objects" / "ab").mkdir(exist_ok=True)
    (directory.path / "objects" / "ab" / "notes.rsc").write_text("mine")
    shutil.copy(the_file(directory), directory.path / "objects" / "ab" / ("f" * 40 + ".rsc"))
    (found,) = directory.files()
    assert abs(found.used - time.time()) < 5
    assert 0 < found.disk_bytes < 16384
    assert directory.opened(found).header == header()


def test_whether_a_file_was_reused_stands_on_it(directory: Directory) -> None:
    made = directory.create(header())
    (found,) = directory.files()
    assert not found.reused
    os.utime(made.fileno(), (1000, 1000))
    reused(made)
    fill_block(made, 0)
    (found,) = Directory(directory.path).files()
    assert found.reused
    assert abs(found.used - time.time()) < 5


def test_files_of_makers_that_died_go(directory: Directory) -> None:
    new = directory.path / "new"
    packed = pack_header(header())
    assert packed is not None
    dead = {"1-0123456789abcdef": packed, "12-0123456789abcdef": b"", "9-" + "f" * 16: bytes(99)}
    mine = {
        "thesis.doc": b"",
        "1-0123456789abcdef.doc": packed,
        "1-a": packed,
        "-0123456789abcdef": packed,
        "7-0123456789abcdef": b"mine",
    }
    for name, content in {**dead, **mine}.items():
        (new / name).write_bytes(content)
        os.utime(new / name, (1, 1))
    (new / "2-0123456789abcdef").write_bytes(packed)  # just now
    (new / "3-0123456789abcdef").symlink_to("thesis.doc")
    (new / "4-0123456789abcdef").mkdir()
    directory.remove_abandoned()
    left = {"2-0123456789abcdef", "3-0123456789abcdef", "4-0123456789abcdef", *mine}
    assert {path.name for path in new.iterdir()} == left


def test_linked_groups_are_gone_past(directory: Directory, tmp_path: Path) -> None:
    made = directory.create(header())
    path = the_file(directory)
    elsewhere = tmp_path / "elsewhere"
    path.parent.rename(elsewhere)
    path.parent.symlink_to(elsewhere)
    (directory.path / "objects" / "zz").symlink_to(elsewhere)
    with pytest.raises(ForeignFile):
        directory.find(PLACE)
    with pytest.raises(ForeignFile):
        directory.create(header())
    assert list(directory.files()) == []
    assert not directory.remove_file(PLACE, made)
    assert not directory.remove(FileInfo(path.name, 0, 0.0))
    assert (elsewhere / path.name).exists()


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
    assert directory.try_lock_scan()
    assert not other.try_lock_scan()
    directory.unlock_scan()
    assert other.try_lock_scan()
    directory.unlock_object("a")
    assert other.try_lock_object("a")
    other.close()
    assert directory.try_lock_scan()
    assert directory.free_bytes() > 0
