from __future__ import annotations

from pathlib import Path

from rangeserver.cache.directory import Directory
from rangeserver.cache.purging import Purged, purge_all, purge_object, purge_where
from tests.cache.files import keep, opened


def test_one_object(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    wanted, other = keep(directory, "a"), keep(directory, "b")
    size = wanted.stat().st_blocks * 512
    assert purge_object(directory, "aws films a") == Purged(1, size)
    assert purge_object(directory, "aws films a") == Purged(0, 0)
    assert purge_object(directory, "aws others b") == Purged(0, 0)
    assert (wanted.exists(), other.exists()) == (False, True)


def test_each_purge_can_be_seen_by_all_who_use_the_directory(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    other = Directory(directory.path)
    seen = {other.last_purge()}
    directory.usage.recount(lambda: 0)  # what changes beside it
    assert other.last_purge() in seen
    for _ in range(3):
        purge_object(directory, "aws films nothing")
        assert other.last_purge() == directory.last_purge() not in seen
        seen.add(other.last_purge())
    purge_all(other)
    assert directory.last_purge() not in seen


def test_some_objects(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    paths = {key: keep(directory, key) for key in ("x/a", "x/y/b", "xy", "z")}
    broken = keep(directory, "x/broken")
    broken.write_bytes(b"?")
    purged = purge_where(directory, lambda cache_key: cache_key.startswith("aws films x/"))
    assert purged.objects == 2
    assert {key for key, path in paths.items() if path.exists()} == {"xy", "z"}
    assert broken.exists()  # whose it was cannot be told


def test_all_objects_and_nothing_else(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "a")
    keep(directory, "b", bucket="others").write_bytes(b"")
    named_like_ours = keep(directory, "c")
    mine = {named_like_ours, tmp_path / "objects" / "mine"}
    for path in mine:
        path.write_bytes(b"mine")
    assert purge_all(directory).objects == 2
    assert all(path.exists() for path in mine)
    assert directory.exists()
    assert purge_all(directory) == Purged(0, 0)
