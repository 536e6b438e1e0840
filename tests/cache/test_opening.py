"""What is opened as a cache file, and what is not."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.errors import InvalidCacheFile
from tests.cache.files import FACTS, new_file, open_file


@pytest.fixture
def file(tmp_path: Path) -> CacheFile:
    return new_file(tmp_path / "a")


def again(tmp_path: Path) -> CacheFile:
    return open_file(tmp_path / "a")


def test_what_is_no_cache_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"something else")
    with pytest.raises(InvalidCacheFile):
        again(tmp_path)
    path.unlink()
    file = new_file(path)
    os.ftruncate(file.fileno(), file.layout.file_bytes - 1)
    assert not file.is_current()
    with pytest.raises(InvalidCacheFile, match="wrong length"):
        again(tmp_path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(InvalidCacheFile, match="not a file"):
        open_file(tmp_path / "link")


def test_facts_that_do_not_fit_make_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too large"):
        new_file(tmp_path / "a", replace(FACTS, content_type="x" * 9000))
    assert not (tmp_path / "a").exists()


def test_rewriting_without_a_pause_throws_no_file_away(file: CacheFile, tmp_path: Path) -> None:
    over = threading.Event()
    longer = replace(FACTS, content_type="x" * 3000)

    def rewrite() -> None:
        while not over.is_set():
            for facts in (longer, FACTS):
                file.change_header(lambda header, facts=facts: replace(header, facts=facts))  # type: ignore[misc]

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for _ in range(300):
            again(tmp_path)
    finally:
        over.set()
        thread.join()
