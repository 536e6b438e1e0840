"""One cache file: what is written is found, what is damaged is not."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rangeserver.cache import cache_file
from rangeserver.cache.cache_file import CacheFile, Claim
from rangeserver.cache.errors import InvalidCacheFile
from rangeserver.cache.header import Header, read_header
from rangeserver.protocol.ranges import ByteSpan
from tests.cache.files import BLOCK, DATA, FACTS, fill_block, header, new_file, open_file


@pytest.fixture
def file(tmp_path: Path) -> CacheFile:
    return new_file(tmp_path / "a")


def again(tmp_path: Path) -> CacheFile:
    return open_file(tmp_path / "a")


def flip(file: CacheFile, offset: int) -> None:
    byte = os.pread(file.fileno(), 1, offset)
    os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), offset)


def test_a_new_file_is_empty_and_sparse(file: CacheFile, tmp_path: Path) -> None:
    found = again(tmp_path)
    assert (found.header, found.writable, list(found.present())) == (header(), True, [])
    assert os.fstat(file.fileno()).st_blocks * 512 < 16384
    assert file.claim(0, 4, fetch=False) == Claim([])


def test_what_was_written_is_good_in_every_process(file: CacheFile, tmp_path: Path) -> None:
    for block in (0, 1, 3):
        fill_block(file, block)
    found = again(tmp_path)
    assert list(found.present()) == [(0, 2), (3, 4)]
    assert found.claim(0, 4, fetch=True) == Claim([0, 1])
    assert found.claim(3, 4, fetch=True) == Claim([3])
    assert found.claim(2, 4, fetch=True) == Claim([], run=(2, 3))
    assert [found.verify(block) for block in range(4)] == [True, True, False, True]
    span = ByteSpan(3 * BLOCK, len(DATA))
    assert os.pread(found.fileno(), 100, found.layout.data_offset + span.start) == DATA[-100:]


def test_what_others_fetch_is_left_to_them(file: CacheFile, tmp_path: Path) -> None:
    other = again(tmp_path)
    assert file.claim(1, 3, fetch=True).run == (1, 3)
    assert other.claim(0, 4, fetch=True).run == (0, 1)
    assert other.claim(1, 4, fetch=True) == Claim([])
    assert other.claim(3, 4, fetch=True).run == (3, 4)
    file.release((1, 3))
    assert other.claim(1, 4, fetch=True).run == (1, 4)


def test_the_locks_go_with_the_file(file: CacheFile, tmp_path: Path) -> None:
    other = again(tmp_path)
    assert other.claim(0, 4, fetch=True).run == (0, 4)
    del other
    assert file.claim(0, 4, fetch=True).run == (0, 4)


@pytest.mark.parametrize("part", ["data", "record"])
def test_a_damaged_block_is_fetched_again(file: CacheFile, part: str) -> None:
    for block in range(4):
        fill_block(file, block)
    at = file.layout.data_offset + BLOCK + 7 if part == "data" else file.layout.record_offset(1) + 5
    flip(file, at)
    assert file.claim(0, 4, fetch=True) == Claim([0], damaged=1)
    assert list(file.present()) == [(0, 1), (2, 4)]
    assert file.claim(1, 4, fetch=True) == Claim([], run=(1, 2))
    fill_block(file, 1)
    assert file.claim(1, 4, fetch=True) == Claim([1, 2, 3])


def test_without_leave_to_fetch_nothing_is_changed(file: CacheFile) -> None:
    fill_block(file, 0)
    flip(file, file.layout.data_offset)
    assert file.claim(0, 4, fetch=False) == Claim([], damaged=1)
    assert list(file.present()) == [(0, 1)]


def test_no_more_is_checked_at_once_than_a_disk_reads_soon(
    file: CacheFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in range(4):
        fill_block(file, block)
    monkeypatch.setattr(cache_file, "CHECK_BYTES", 2 * BLOCK)
    assert file.claim(0, 4, fetch=True).good == [0, 1]
    monkeypatch.setattr(cache_file, "CHECK_BYTES", 1)
    assert file.claim(0, 4, fetch=True).good == [0]


def test_headers_are_rewritten_for_all(file: CacheFile, tmp_path: Path) -> None:
    other = again(tmp_path)
    facts = replace(FACTS, content_type="video/mp4")
    too_large = replace(FACTS, content_type="x" * 9000)
    file.change_header(lambda header: header.told("somebody", facts, 9.0))
    assert other.header.checked == 5.0
    assert other.reread_header() == other.header == file.header
    with pytest.raises(ValueError, match="too large"):
        file.change_header(lambda header: replace(header, facts=too_large))


def test_a_header_seen_while_it_is_rewritten_is_seen_again(
    file: CacheFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    def torn_once(raw: bytes) -> Header:
        reads.append(1)
        if len(reads) == 1:
            raise InvalidCacheFile
        return read_header(raw)

    monkeypatch.setattr(cache_file, "read_header", torn_once)
    assert file.reread_header() == header()


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


def test_a_file_without_a_name_is_not_current_but_readable(file: CacheFile, tmp_path: Path) -> None:
    fill_block(file, 0)
    assert file.is_current()
    (tmp_path / "a").unlink()
    assert not file.is_current()
    file.warm(ByteSpan(0, BLOCK))
    os.ftruncate(file.fileno(), 20_000)
    with pytest.raises(OSError, match="cut short"):
        file.warm(ByteSpan(0, BLOCK))
    assert file.claim(0, 1, fetch=False).damaged == 1


def test_facts_that_do_not_fit_make_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too large"):
        new_file(tmp_path / "a", replace(FACTS, content_type="x" * 9000))
    assert not (tmp_path / "a").exists()


def test_the_descriptor_is_closed_with_the_last_reference(tmp_path: Path) -> None:
    closed: list[int] = []
    file = new_file(tmp_path / "a", close=closed.append)
    number, same = file.fileno(), file
    del file
    assert not closed
    del same
    assert closed == [number]
    os.close(number)
