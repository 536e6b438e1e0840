"""The header of a cache file."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.cache.blocks import HEADER_BYTES
from rangeserver.cache.errors import InvalidCacheFile
from rangeserver.cache.header import FORMAT, MAX_READERS, pack_header, read_header
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.cache.files import BLOCK, FACTS, header

texts = st.none() | st.text(max_size=50)


@given(key=st.text(max_size=50), size=st.integers(0, 2**45), kind=texts, version=texts)
def test_it_is_read_as_it_was_written(
    key: str, size: int, kind: str | None, version: str | None
) -> None:
    facts = ObjectFacts(ObjectKey(key), size, '"v"', 7, content_type=kind, version_id=version)
    written = header(facts, checked=1234.5)
    packed = pack_header(written)
    assert len(packed) == HEADER_BYTES
    assert read_header(packed) == written


def test_facts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="too large"):
        pack_header(header(replace(FACTS, content_type="x" * 9000)))


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_byte_can_change_unnoticed(at: int, change: int) -> None:
    packed = bytearray(pack_header(header()))
    packed[at % len(packed.rstrip(b"\0"))] ^= change
    with pytest.raises(InvalidCacheFile):
        read_header(bytes(packed))


def packed_by_hand(described: object, size: int = FACTS.size, block_bytes: int = BLOCK) -> bytes:
    """With a checksum that is right, whatever it says."""
    fixed, text = struct.Struct("<8sIIQII"), json.dumps(described).encode()
    parts = (b"rangesrv", FORMAT, block_bytes, size, len(text))
    checksum = zlib.crc32(text, zlib.crc32(fixed.pack(*parts, 0)))
    return (fixed.pack(*parts, checksum) + text).ljust(HEADER_BYTES, b"\0")


FIELDS = {"key": "a", "size": FACTS.size, "etag": '"v1"'}
GOOD = {"place": "p", "checked": 1.0, "facts": FIELDS}


def test_nobody_was_told_what_earlier_versions_have_noted() -> None:
    assert read_header(packed_by_hand(GOOD)).readers == {}
    assert json.loads(pack_header(header(checked=5.0))[32:].rstrip(b"\0"))["checked"] == 5.0


def test_the_readers_that_were_told_last_are_noted() -> None:
    written = header(checked=100.0)
    for number in range(MAX_READERS):
        written = written.with_reader(f"reader {number}", FACTS, float(number))
    assert list(written.readers) == [f"reader {number}" for number in range(1, 8)] + ["somebody"]
    assert written.checked == 100.0
    assert written.without_reader("somebody").checked == 7.0
    assert written.without_reader("nobody") == written


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * HEADER_BYTES,
        packed_by_hand([]),
        packed_by_hand({}),
        packed_by_hand({**GOOD, "facts": {**FIELDS, "colour": "red"}}),
        packed_by_hand({**GOOD, "facts": {"key": "a"}}),
        packed_by_hand({**GOOD, "readers": ["somebody"]}),
        packed_by_hand({**GOOD, "readers": {"somebody": "yesterday"}}),
        packed_by_hand(GOOD, size=1),
        packed_by_hand(GOOD, block_bytes=1),
        packed_by_hand(GOOD, block_bytes=1 << 30),
    ],
)
def test_what_is_none_of_ours(raw: bytes) -> None:
    assert read_header(packed_by_hand(GOOD)).facts == FACTS
    with pytest.raises(InvalidCacheFile):
        read_header(raw)
