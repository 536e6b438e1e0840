"""What is removed from a cache directory, and what never is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rangeserver.cache.directory import Directory
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile
from rangeserver.cache.header import pack_header
from rangeserver.cache.limits import Limits
from rangeserver.cache.listing import FileInfo
from rangeserver.cache.purging import purge_all
from rangeserver.cache.space import Space
from tests.cache.files import PLACE, header
from tests.faults.tools import needs

AS_ROOT = needs(root=True)


def opened(path: Path) -> Directory:
    directory = Directory(path)
    directory.open()
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return opened(tmp_path / "cache")


def the_file(directory: Directory, cache_key: str = PLACE) -> Path:
    return Path(directory.path_of(cache_key))


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
    Space(directory, Limits(0, 1 << 60)).reclaim()
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


def test_files_of_makers_that_died_go(directory: Directory) -> None:
    new = directory.path / "new"
    packed = pack_header(header())
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
