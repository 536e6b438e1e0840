"""One cache file: what is written is found."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.claims import Claim, claim
from rangeserver.cache.errors import InvalidCacheFile
from rangeserver.cache.header import Header, read_header
from rangeserver.protocol.ranges import ByteSpan
from tests.cache.files import BLOCK, DATA, FACTS, fill_block, header, new_file, open_file


@pytest.fixture
def file(tmp_path: Path) -> CacheFile:
    return new_file(tmp_path / "a")


def again(tmp_path: Path) -> CacheFile:
    return open_file(tmp_path / "a")


def test_a_new_file_is_empty_and_sparse(file: CacheFile, tmp_path: Path) -> None:
    found = again(tmp_path)
    assert (found.header, found.writable, list(found.present())) == (header(), True, [])
    assert os.fstat(file.fileno()).st_blocks * 512 < 16384
    assert claim(file, 0, 4, fetch=False) == Claim([])


def test_what_was_written_is_good_in_every_process(file: CacheFile, tmp_path: Path) -> None:
    for block in (0, 1, 3):
        fill_block(file, block)
    found = again(tmp_path)
    assert list(found.present()) == [(0, 2), (3, 4)]
    assert claim(found, 0, 4, fetch=True) == Claim([0, 1])
    assert claim(found, 3, 4, fetch=True) == Claim([3])
    assert claim(found, 2, 4, fetch=True) == Claim([], run=(2, 3))
    assert [found.verify(block) for block in range(4)] == [True, True, False, True]
    span = ByteSpan(3 * BLOCK, len(DATA))
    assert os.pread(found.fileno(), 100, found.layout.data_offset + span.start) == DATA[-100:]


def test_headers_are_rewritten_for_all(file: CacheFile, tmp_path: Path) -> None:
    other = again(tmp_path)
    facts = replace(FACTS, content_type="video/mp4")
    too_large = replace(FACTS, content_type="x" * 9000)
    file.change_header(lambda header: header.with_reader("somebody", facts, 9.0))
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

    monkeypatch.setattr("rangeserver.cache.header.read_header", torn_once)
    assert file.reread_header() == header()


def test_a_file_without_a_name_is_not_current_but_readable(file: CacheFile, tmp_path: Path) -> None:
    fill_block(file, 0)
    assert file.is_current()
    (tmp_path / "a").unlink()
    assert not file.is_current()
    file.warm(ByteSpan(0, BLOCK))
    os.ftruncate(file.fileno(), 20_000)
    with pytest.raises(OSError, match="cut short"):
        file.warm(ByteSpan(0, BLOCK))
    assert claim(file, 0, 1, fetch=False).damaged == 1


def test_the_descriptor_is_closed_with_the_last_reference(tmp_path: Path) -> None:
    closed: list[int] = []
    file = new_file(tmp_path / "a", close=closed.append)
    number, same = file.fileno(), file
    del file
    assert not closed
    del same
    assert closed == [number]
    os.close(number)
