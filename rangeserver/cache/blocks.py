"""The layout of a cache file, which holds one version of one object. Arithmetic only.

    0            header: what object it is (:mod:`rangeserver.cache.header`)
    HEADER_BYTES records of RECORD_BYTES, one for each block: whether it is here, and its checksum
    data_offset  the object's bytes in order; holes where blocks are missing

All blocks have ``block_bytes`` except the last one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

from rangeserver.protocol.ranges import ByteSpan

HEADER_BYTES = 8192
RECORD_BYTES = 8
_PAGE_BYTES = 4096

MIN_BLOCK_BYTES = 16 * 1024
MAX_BLOCK_BYTES = 16 * 1024 * 1024

_RECORD = struct.Struct("<II")
_PRESENT = 0x4B4C4252
"""Begins the record of a block that is here; zeros, as in a hole, mean that it is not."""


@dataclass(frozen=True)
class Layout:
    """The offsets in a file for an object of ``size`` bytes."""

    size: int
    block_bytes: int

    @cached_property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.size // self.block_bytes)

    @cached_property
    def data_offset(self) -> int:
        """Where the object's first byte is: at the beginning of a page, as block devices prefer."""
        end = HEADER_BYTES + self.blocks * RECORD_BYTES
        return -(-end // _PAGE_BYTES) * _PAGE_BYTES

    @cached_property
    def file_bytes(self) -> int:
        """The length of the file, holes included."""
        return self.data_offset + self.size

    def record_offset(self, block: int) -> int:
        """Where the record of a block lies."""
        return HEADER_BYTES + block * RECORD_BYTES

    def start(self, block: int) -> int:
        """The object's offset at which a block begins; of the block after the last, its end."""
        return min(block * self.block_bytes, self.size)

    def span(self, first: int, stop: int) -> ByteSpan:
        """The object's bytes in the blocks ``first <= block < stop``."""
        return ByteSpan(self.start(first), self.start(stop))

    def blocks_of(self, span: ByteSpan) -> tuple[int, int]:
        """The first block that holds bytes of a span, and the one after the last."""
        return span.start // self.block_bytes, -(-span.stop // self.block_bytes)


def pack_record(checksum: int) -> bytes:
    """The record of a block that is here; ``checksum`` is the CRC-32 of its bytes."""
    return _RECORD.pack(_PRESENT, checksum)


ABSENT = bytes(RECORD_BYTES)
"""The record of a block that is not."""


def read_records(raw: bytes) -> list[int | None]:
    """The checksums in a piece of the records, ``None`` for each block that is not here."""
    return [checksum if mark == _PRESENT else None for mark, checksum in _RECORD.iter_unpack(raw)]
