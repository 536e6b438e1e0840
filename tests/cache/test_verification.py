from __future__ import annotations

from pathlib import Path

import pytest

from rangeserver.cache import cache_file
from rangeserver.cache.claims import claim
from rangeserver.cache.directory import Directory
from rangeserver.cache.verification import Damaged, files_to_verify, remove, verify
from tests.cache.files import BLOCK, CONTENT, damage, keep, opened


def verified(directory: Directory) -> tuple[list[Damaged], int]:
    """What is damaged, and how many bytes were read."""
    read: list[int] = []
    files = list(files_to_verify(directory))
    found = [verify(directory, file, on_bytes=read.append) for file, _ in files]
    damaged = [each for each in found if each is not None]
    if not any(each.cache_key is None for each in damaged):
        assert sum(read) == sum(count for _, count in files)
    return damaged, sum(read)


def test_all_that_is_recorded_is_read(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "whole")
    keep(directory, "part", [2, 10])
    assert verified(directory) == ([], len(CONTENT) + BLOCK + 100)


def test_damage_is_told_and_left(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    keep(directory, "good")
    path = keep(directory, "bad", range(6))
    used = path.stat().st_mtime
    for block in (0, 5, 10):  # nothing is recorded of the last
        damage(path, block)
    ((bad,), _) = verified(directory)
    assert bad.found.name == path.name
    assert bad.cache_key == "aws films bad"
    assert bad.reason == "2 of 6 blocks damaged"
    assert path.stat().st_mtime == used  # looking is no use
    assert remove(directory, bad)
    assert not remove(directory, bad)
    assert verified(directory) == ([], len(CONTENT))


def test_a_file_that_is_not_ours(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    path = keep(directory, "film")
    path.write_bytes(b"x" * 10_000)
    ((bad,), read) = verified(directory)
    assert (bad.reason, bad.cache_key, read) == ("not a cache file", None, 0)


def test_a_file_that_goes_meanwhile_is_not_damaged(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    path = keep(directory, "film")
    damage(path, 3)
    ((found, _),) = files_to_verify(directory)
    assert verify(directory, found, on_bytes=lambda _: path.unlink(missing_ok=True)) is None
    assert verify(directory, found, on_bytes=lambda _: None) is None


def test_a_block_that_a_server_mends_meanwhile_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = opened(tmp_path)
    path = keep(directory, "film", range(5))
    damage(path, 3)
    ((found, _),) = files_to_verify(directory)
    looked = cache_file.CacheFile.verify

    def mended(self: cache_file.CacheFile, block: int) -> bool:
        good = looked(self, block)
        if not good:
            server = directory.open_listed(found)
            assert claim(server, 3, 4, fetch=True).run == (3, 4)  # its record is gone now
        return good

    monkeypatch.setattr(cache_file.CacheFile, "verify", mended)
    assert verify(directory, found, on_bytes=lambda _: None) is None
