"""Spans that are read without waiting for anything."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import cast

import pytest

from rangeserver.cache import resident_span
from rangeserver.cache.cache import Cache
from rangeserver.cache.entry import Entry
from rangeserver.cache.metrics import CacheMetrics
from rangeserver.cache.resident_span import ResidentSpan
from rangeserver.origin.base import ReadReport
from rangeserver.protocol.ranges import ByteSpan
from tests.cache.files import BLOCK, DATA, new_file


class Users:
    """What a cache knows of its readers."""

    def __init__(self) -> None:
        self.metrics = CacheMetrics()
        self.used: list[tuple[Entry, int]] = []

    def in_use(self, entry: Entry, reread: int) -> None:
        self.used.append((entry, reread))


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    file = new_file(tmp_path / "a")
    file.write(DATA, 0)
    entry = Entry("a", file)
    for block in range(file.layout.blocks):
        entry.has(block)
    return entry


def span_of(users: Users, entry: Entry, span: ByteSpan, report: ReadReport) -> ResidentSpan:
    return ResidentSpan(cast("Cache", users), entry, span, report)


def read(span: ResidentSpan) -> bytes:
    part = span.slice
    return os.pread(part.file.fileno(), part.length, part.offset)


def test_a_span_comes_in_slices(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident_span, "TURN_BYTES", 10_000)
    report, users = ReadReport(), Users()
    span = span_of(users, entry, ByteSpan(5, 20_100), report)
    received = []
    while report.cached < 20_095:
        assert span.advance()
        received.append(read(span))
    assert [len(part) for part in received] == [10_000, 10_000, 95]
    assert b"".join(received) == DATA[5:20_100]
    assert users.used == [(entry, 10_000), (entry, 10_000), (entry, 95)]


def test_a_span_ends_where_something_is_missing(entry: Entry) -> None:
    entry.doubt(2, 3)
    report = ReadReport()
    assert not span_of(Users(), entry, ByteSpan(0, 2 * BLOCK + 1), report).advance()
    assert span_of(Users(), entry, ByteSpan(0, 2 * BLOCK), report).advance()
    assert span_of(Users(), entry, ByteSpan(3 * BLOCK, len(DATA)), report).advance()
    assert report.cached == 2 * BLOCK + len(DATA) - 3 * BLOCK


def test_nothing_is_waited_for(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> bool:
        raise OSError(errno.EIO, "broken")

    report = ReadReport()
    span = span_of(Users(), entry, ByteSpan(0, 10), report)
    for resident in (fails, lambda *_: False):
        monkeypatch.setattr(resident_span, "is_resident", resident)
        assert not span.advance()
    assert report.cached == 0
