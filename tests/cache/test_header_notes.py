"""What the origin said, noted in files for all processes."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.entry import Entry
from rangeserver.cache.header_notes import note_checked, note_refused, reread_header
from rangeserver.protocol.representation import ObjectFacts
from tests.cache.files import BLOCK
from tests.cache.model_origin import MemoryOrigin
from tests.cache.setting import Setting, setting

KEY = "aws films a"


@pytest.fixture
def stored() -> Mapping[str, bytes]:
    return {"a": random.Random(3).randbytes(BLOCK)}


@pytest.fixture
async def other(tmp_path: Path, inner: MemoryOrigin) -> AsyncIterator[Setting]:
    """Another process."""
    async with setting(tmp_path, inner) as made:
        yield made


def facts_of(one: Setting, *, seconds_ago: float = 0.0) -> ObjectFacts:
    return replace(one.inner.current["a"], validated_at=time.monotonic() - seconds_ago)


async def entry_of(one: Setting, *, seconds_ago: float = 0.0) -> Entry:
    entry = await one.cache.create(KEY, facts_of(one, seconds_ago=seconds_ago), "me")
    assert entry is not None
    return entry


async def found(one: Setting) -> Entry:
    entry = await one.cache.find(KEY)
    assert entry is not None
    return entry


async def test_other_processes_learn_it(one: Setting, other: Setting) -> None:
    entry = await entry_of(one)
    theirs = await found(other)
    await note_checked(one.cache, entry, facts_of(one), "you")
    assert set(theirs.file.header.readers) == {"me"}
    await reread_header(other.cache, theirs)
    assert set(theirs.file.header.readers) == {"me", "you"}
    await note_refused(one.cache, entry, "me")
    await reread_header(other.cache, theirs)
    assert set(theirs.file.header.readers) == {"you"}


async def test_the_same_is_noted_once_in_a_while(one: Setting) -> None:
    entry = await entry_of(one, seconds_ago=60)
    before = entry.file.header.readers["me"]
    await note_checked(one.cache, entry, facts_of(one, seconds_ago=59.5), "me")
    assert entry.file.header.readers["me"] == before
    await note_checked(one.cache, entry, facts_of(one), "me")
    assert entry.file.header.readers["me"] > before


async def test_a_disk_that_fails_leaves_it_in_memory(
    one: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await entry_of(one)

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(CacheFile, "change_header", fails)
    await note_checked(one.cache, entry, facts_of(one), "you")
    assert set(entry.file.header.readers) == {"me", "you"}
    assert not one.cache.may_write()
    await note_refused(one.cache, entry, "me")  # is not tried on the disk any more
    assert set(entry.file.header.readers) == {"you"}


async def test_facts_that_fit_no_header_remove_the_entry(one: Setting) -> None:
    entry = await entry_of(one)
    await note_checked(one.cache, entry, replace(facts_of(one), content_type="x" * 9000), "me")
    assert await one.cache.find(KEY) is None


async def test_a_header_that_was_damaged_removes_the_entry(one: Setting) -> None:
    entry = await entry_of(one)
    os.pwrite(entry.file.fileno(), b"damaged", 40)
    await reread_header(one.cache, entry)
    assert await one.cache.find(KEY) is None
    assert one.counted("errors_total", kind="foreign") == 1
