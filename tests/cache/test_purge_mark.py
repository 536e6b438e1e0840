"""What tells servers that something was purged."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rangeserver.cache.purge_mark import PurgeWatch, read_mark, renew_mark
from tests.origin.clock import Clock


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    with (tmp_path / "mark").open("w+b") as file:
        yield file.fileno()


def test_each_purge_leaves_another_mark(descriptor: int) -> None:
    marks = {read_mark(descriptor)}
    for _ in range(5):
        renew_mark(descriptor)
        marks.add(read_mark(descriptor))
    assert len(marks) == 6


def test_it_is_read_now_and_then(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    watch = PurgeWatch(lambda: read_mark(descriptor))
    watch.look()
    before = watch.mark
    renew_mark(descriptor)
    watch.look()
    assert watch.mark == before
    clock.now += 1
    watch.look()
    assert watch.mark == read_mark(descriptor) != before


def test_a_disk_that_fails_says_nothing_new() -> None:
    def failing() -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    watch = PurgeWatch(failing)
    watch.look()
    assert watch.mark == b""
