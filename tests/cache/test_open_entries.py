"""The table of entries whose files are open."""

from __future__ import annotations

from pathlib import Path

from rangeserver.cache.entry import Entry
from rangeserver.cache.fill import Fill
from rangeserver.cache.open_entries import OpenEntries
from rangeserver.origin.base import ReadReport
from tests.cache.files import new_file


def added(entries: OpenEntries, directory: Path, cache_key: str) -> Entry:
    return entries.add(cache_key, new_file(directory / cache_key))


def keys(entries: OpenEntries) -> list[str]:
    return [entry.cache_key for entry in entries]


def test_the_least_recently_used_is_closed(tmp_path: Path) -> None:
    entries = OpenEntries(max_open=2)
    first = added(entries, tmp_path, "a")
    added(entries, tmp_path, "b")
    assert entries.find("a") is first
    added(entries, tmp_path, "c")
    assert keys(entries) == ["a", "c"]


def test_what_is_being_filled_stays_open(tmp_path: Path) -> None:
    entries = OpenEntries(max_open=1)
    first = added(entries, tmp_path, "a")
    fill = Fill((0, 2), 0, ReadReport(), shorten=bool)
    first.add_fill(fill)
    added(entries, tmp_path, "b")
    assert keys(entries) == ["a"]
    first.remove_fill(fill, 0)
    added(entries, tmp_path, "c")
    assert keys(entries) == ["c"]


def test_of_two_who_open_the_same_the_first_one_counts(tmp_path: Path) -> None:
    entries = OpenEntries()
    first = added(entries, tmp_path, "a")
    assert entries.add("a", new_file(tmp_path / "again")) is first
    (tmp_path / "a").unlink()
    second = entries.add("a", new_file(tmp_path / "once more"))
    assert (entries.find("a"), len(entries)) == (second, 1)


def test_a_removed_file_is_not_found(tmp_path: Path) -> None:
    entries = OpenEntries()
    entry = added(entries, tmp_path, "a")
    assert entries.find("a") is entry
    (tmp_path / "a").unlink()
    assert entries.find("a", seen_within=60.0) is entry  # it had its name a moment ago
    assert entries.find("a") is None
    assert len(entries) == 0


def test_removed_files_are_closed(tmp_path: Path) -> None:
    entries = OpenEntries()
    for cache_key in "abc":
        added(entries, tmp_path, cache_key)
    (tmp_path / "b").unlink()
    entries.close_unlinked()
    assert keys(entries) == ["a", "c"]


def test_only_the_entry_that_is_meant_is_removed(tmp_path: Path) -> None:
    entries = OpenEntries()
    old = added(entries, tmp_path, "a")
    (tmp_path / "a").unlink()
    new = added(entries, tmp_path, "a")
    entries.remove(old)
    assert entries.find("a") is new
    entries.remove(new)
    assert entries.find("a") is None
