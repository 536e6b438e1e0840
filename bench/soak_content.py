"""The objects of the soak: any byte of any version can be computed by whoever needs to know it."""

from __future__ import annotations

import hashlib
from functools import lru_cache

BLOCK_BYTES = 1 << 16
OBJECT_BYTES = 4 << 20
KEYS = tuple(f"object{number}.bin" for number in range(16))


def etag_of(key: str, version: int) -> str:
    """The entity tag, which names the version."""
    return f'"{key}-{version}"'


def content_of(etag: str, start: int, stop: int) -> bytes:
    """The bytes ``[start, stop)`` of the version with this entity tag."""
    first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
    blocks = b"".join(_block(etag, number) for number in range(first, last + 1))
    offset = first * BLOCK_BYTES
    return blocks[start - offset : stop - offset]


@lru_cache(maxsize=1024)
def _block(etag: str, number: int) -> bytes:
    return hashlib.shake_128(f"{etag}/{number}".encode()).digest(BLOCK_BYTES)
