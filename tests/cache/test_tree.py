"""What is taken for a cache of ours, and what is left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rangeserver.cache.tree import MARK, Tree
from tests.faults.tools import needs

AS_ROOT = needs(root=True)


def made(path: Path) -> Tree:
    return Tree.made(path, close=os.close)


def found(path: Path) -> Tree:
    return Tree.found(path, close=os.close)


def a_letter(path: Path) -> None:
    (path / "letter").touch()


def a_folder_named_as_one_of_ours(path: Path) -> None:
    (path / "new").mkdir()


def a_file_named_as_one_of_file_systems(path: Path) -> None:
    (path / "lost+found").touch()


def another_mark(path: Path) -> None:
    (path / MARK).write_text("mine")


def a_linked_mark(path: Path) -> None:
    (path / MARK).symlink_to("/dev/null")


def a_mark_that_is_a_folder(path: Path) -> None:
    (path / MARK).mkdir()


def a_link_with_a_mark(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / MARK).touch()
        elsewhere = path.with_name("elsewhere")
        elsewhere.mkdir()
        (path / name).symlink_to(elsewhere)

    return change


def another_users_part(path: Path) -> None:
    (path / MARK).touch()
    (path / "objects").mkdir()
    os.chown(path / "objects", 4242, -1)


def another_users_cache(path: Path) -> None:
    (path / MARK).touch()
    os.chown(path / MARK, 4242, -1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (a_letter, r"holds other files \('letter'\)"),
        (a_folder_named_as_one_of_ours, r"holds other files \('new'\)"),
        (a_file_named_as_one_of_file_systems, "holds other files"),
        (another_mark, "is not the mark of a cache"),
        (a_linked_mark, "is not the mark of a cache"),
        (a_mark_that_is_a_folder, "is not the mark of a cache"),
        (a_link_with_a_mark("new"), "new in it is not a directory"),
        (a_link_with_a_mark("objects"), "objects in it is not a directory"),
        pytest.param(another_users_part, "objects in it belongs to user 4242", marks=AS_ROOT),
        pytest.param(another_users_cache, "it belongs to user 4242", marks=AS_ROOT),
    ],
)
def test_somebody_elses_directory_is_left_alone(
    tmp_path: Path, change: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "cache"
    path.mkdir()
    change(path)
    before = listing(tmp_path)
    with pytest.raises(OSError, match=reason):
        made(path)
    parts = {path / "objects", path / "new"} if (path / MARK).is_file() else set()
    assert before <= listing(tmp_path) <= before | parts


def listing(path: Path) -> set[Path]:
    return set(path.rglob("*"))


def test_a_file_system_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    made(tmp_path)
    assert (tmp_path / MARK).exists()


def test_what_an_earlier_version_has_made(tmp_path: Path) -> None:
    (tmp_path / MARK).touch()
    (tmp_path / "objects").mkdir()
    assert made(tmp_path).objects.names() == []
    assert (tmp_path / MARK).read_text().startswith(MARK + "\n")
    assert found(tmp_path).owner == os.geteuid()


def test_a_directory_that_the_user_has_linked(tmp_path: Path) -> None:
    """What is named is his choice; what lies in it is not."""
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "cache").symlink_to("large-disk")
    made(tmp_path / "cache")
    assert (tmp_path / "large-disk" / MARK).exists()


def test_who_else_could_write_to_it(tmp_path: Path) -> None:
    tree = made(tmp_path)
    assert tree.exposure() is None
    tmp_path.chmod(0o777)
    assert tree.exposure() == "other users may write to it: chmod go-w"
    tmp_path.chmod(0o755)
    assert tree.exposure() is None
    (tmp_path / "new").chmod(0o770)
    assert tree.exposure() == "other users may write to new: chmod go-w"


@AS_ROOT
def test_whose_directory_it_is_in(tmp_path: Path) -> None:
    tree = made(tmp_path)
    os.chown(tmp_path, 4242, -1)
    assert tree.exposure() == "it belongs to user 4242, who may write to it"


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        found(tmp_path)
    assert listing(tmp_path) == set()


def test_it_is_whole_as_long_as_all_of_it_is_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    for name in ("objects", "new", "", MARK):
        tree = made(path)
        assert tree.is_whole(path)
        (path / name).rename(tmp_path / f"old-{name}")
        assert not tree.is_whole(path)


def test_without_its_mark_it_is_no_cache_any_more(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / MARK).unlink()
    with pytest.raises(OSError, match="holds other files"):
        made(tmp_path)


@AS_ROOT
def test_root_may_look_into_anybodys(tmp_path: Path) -> None:
    made(tmp_path)
    for path in (tmp_path, *listing(tmp_path)):
        os.chown(path, 4242, -1)
    assert found(tmp_path).owner == 4242
    with pytest.raises(OSError, match="belongs to user 4242"):
        made(tmp_path)
