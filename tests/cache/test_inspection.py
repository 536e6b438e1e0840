from __future__ import annotations

from pathlib import Path

from rangeserver.cache.inspection import (
    CachedObject,
    UnusableFile,
    cached_bytes,
    contents,
    summarize,
)
from rangeserver.protocol.ranges import ByteSpan
from tests.cache.files import BLOCK, CONTENT, NOW, keep, open_file, opened


def test_what_is_there_the_last_used_first(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "old", [0, 3], used=NOW - 100)
    keep(directory, "new", used=NOW)
    keep(directory, "middle", [10], used=NOW - 50)
    keep(directory, "none", [], used=NOW - 200)
    found = [each for each in contents(directory) if isinstance(each, CachedObject)]
    assert [(kept.header.facts.key, kept.cached_bytes, kept.percent) for kept in found] == [
        ("new", len(CONTENT), 100),
        ("middle", 100, 0),
        ("old", 2 * BLOCK, 19),
        ("none", 0, 0),
    ]
    assert [kept.complete for kept in found] == [True, False, False, False]


def test_all_but_a_byte_is_not_100_percent(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "film", range(10))
    (kept,) = contents(directory)
    assert isinstance(kept, CachedObject)
    assert (kept.percent, kept.complete) == (99, False)


def test_how_much_of_a_span_is_there(tmp_path: Path) -> None:
    file = open_file(keep(opened(tmp_path), "film", [1, 2, 5, 10]))
    assert cached_bytes(file, ByteSpan(BLOCK, 3 * BLOCK)) == 2 * BLOCK
    assert cached_bytes(file, ByteSpan(BLOCK + 5, BLOCK + 6)) == BLOCK
    assert cached_bytes(file, ByteSpan(9 * BLOCK, len(CONTENT))) == 100
    assert cached_bytes(file, ByteSpan(3 * BLOCK, 4 * BLOCK)) == 0
    assert cached_bytes(file) == 3 * BLOCK + 100


def test_what_cannot_be_used_is_told_and_left(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    good = keep(directory, "good")
    wrong = keep(directory, "wrong")
    wrong.write_bytes(b"something else".ljust(9000))
    short = keep(directory, "short")
    with short.open("r+b") as file:
        file.truncate(9000)
    elsewhere = good.with_name(good.name[:2] + "0" * 38 + ".rsc")
    elsewhere.write_bytes(good.read_bytes())
    link = good.with_name(good.name[:2] + "1" * 38 + ".rsc")
    link.symlink_to(good)
    unusable = {
        Path(directory.path_to(each.found.name)): each.reason
        for each in contents(directory)
        if isinstance(each, UnusableFile)
    }
    assert unusable == {
        wrong: "not a cache file",
        short: "wrong length",
        elsewhere: "of another object",
    }
    assert all(path.exists() for path in unusable)
    assert list(directory.foreign_paths()) == [str(link)]


def test_the_figures(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "old", [0, 3], used=NOW - 100)
    keep(directory, "new", used=NOW)
    (tmp_path / "objects" / "00").mkdir(exist_ok=True)
    (tmp_path / "objects" / "00" / ("0" * 40 + ".rsc")).write_bytes(b"?")
    mine = {
        tmp_path / "mine.txt",
        tmp_path / "objects" / "mine",
        tmp_path / "objects" / "00" / "a.rsc",
    }
    for path in mine:
        path.write_bytes(b"mine")
    (tmp_path / "objects" / "folder").mkdir()
    summary = summarize(directory)
    assert (summary.objects, summary.complete, summary.unusable) == (2, 1, 1)
    assert summary.cached_bytes == 2 * BLOCK + len(CONTENT)
    assert (summary.oldest_use, summary.newest_use) == (NOW - 100, NOW)
    assert summary.disk_bytes == sum(
        path.stat().st_blocks * 512 for path in tmp_path.glob("objects/*/" + "?" * 40 + ".rsc")
    )
    assert set(map(Path, summary.foreign_paths)) == mine | {tmp_path / "objects" / "folder"}


def test_an_empty_cache(tmp_path: Path) -> None:
    summary = summarize(opened(tmp_path))
    assert (summary.objects, summary.disk_bytes, summary.oldest_use) == (0, 0, None)
    assert summary.foreign_paths == ()
