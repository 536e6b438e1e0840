"""Where things lie in a cache file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.cache.blocks import (
    ABSENT,
    HEADER_BYTES,
    RECORD_BYTES,
    Layout,
    pack_record,
    read_records,
)
from rangeserver.protocol.ranges import ByteSpan


@pytest.mark.parametrize(
    ("size", "blocks", "data_offset"),
    [(0, 0, 8192), (1, 1, 12288), (100, 1, 12288), (101, 2, 12288), (51_201, 513, 16384)],
)
def test_layouts(size: int, blocks: int, data_offset: int) -> None:
    layout = Layout(size, 100)
    assert (layout.blocks, layout.data_offset) == (blocks, data_offset)
    assert layout.file_bytes == data_offset + size


@given(size=st.integers(0, 10**13), block_bytes=st.sampled_from((16384, 262_144, 1 << 24)))
def test_records_and_data_do_not_overlap(size: int, block_bytes: int) -> None:
    layout = Layout(size, block_bytes)
    assert layout.record_offset(0) == HEADER_BYTES
    assert layout.record_offset(layout.blocks) <= layout.data_offset
    assert layout.data_offset % 4096 == 0
    assert layout.span(0, layout.blocks) == ByteSpan(0, size)


@given(data=st.data(), size=st.integers(1, 10**6), block_bytes=st.integers(1, 1000))
def test_the_blocks_of_a_span_are_those_that_hold_it(
    data: st.DataObject, size: int, block_bytes: int
) -> None:
    layout = Layout(size, block_bytes)
    start = data.draw(st.integers(0, size - 1))
    span = ByteSpan(start, data.draw(st.integers(start + 1, size)))
    first, stop = layout.blocks_of(span)
    around = layout.span(first, stop)
    assert around.start <= span.start < layout.start(first + 1)
    assert layout.start(stop - 1) < span.stop <= around.stop


@given(st.lists(st.none() | st.integers(0, 2**32 - 1)))
def test_records_are_read_as_they_were_written(checksums: list[int | None]) -> None:
    raw = b"".join(ABSENT if each is None else pack_record(each) for each in checksums)
    assert len(raw) == RECORD_BYTES * len(checksums)
    assert read_records(raw) == checksums


def test_what_is_neither_is_absent() -> None:
    assert read_records(b"\xff" * RECORD_BYTES) == [None]
