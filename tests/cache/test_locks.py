"""Locks that exclude files opened apart, and go with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rangeserver.cache.locks import first_locked, try_lock, unlock


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[int, int]]:
    path = tmp_path / "locked"
    path.touch()
    descriptors = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield descriptors
    for each in descriptors:
        os.close(each)


def test_files_opened_apart_exclude_each_other(two: tuple[int, int]) -> None:
    one, other = two
    assert try_lock(one, 8, 8)
    assert not try_lock(other, 0, 9)
    assert try_lock(other, 0, 8)
    assert try_lock(other, 16, 8)
    assert first_locked(other, 0, 100) == 8
    assert first_locked(other, 10, 100) == 10
    assert first_locked(one, 0, 16) == 0
    assert first_locked(other, 16, 100) is None
    unlock(one, 8, 4)
    assert first_locked(other, 0, 100) == 12
    unlock(one, 12, 4)
    assert try_lock(other, 0, 100)


def test_the_same_file_does_not_exclude_itself(two: tuple[int, int]) -> None:
    assert try_lock(two[0], 0, 8)
    assert try_lock(two[0], 0, 8)


def test_closing_another_descriptor_of_the_file_keeps_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    one, other = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert try_lock(one, 0, 8)
    os.close(os.open(path, os.O_RDWR))
    assert not try_lock(other, 0, 8)
    os.close(one)
    assert try_lock(other, 0, 8)
    os.close(other)


def test_a_process_that_dies_gives_its_locks_back(two: tuple[int, int], tmp_path: Path) -> None:
    script = (
        "import os, sys; from rangeserver.cache.locks import try_lock;"
        "assert try_lock(os.open(sys.argv[1], os.O_RDWR), 0, 8); print('locked', flush=True);"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "locked")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert not try_lock(two[0], 0, 8)
        other.kill()
        other.wait()
        assert try_lock(two[0], 0, 8)
