"""The header of a cache file: which version of which object it holds, and who may read it.

A file with another format, a wrong checksum or facts that do not fit is not used.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from rangeserver.cache.blocks import HEADER_BYTES, MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, Layout
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

FORMAT = 1
"""Incremented with every change of the file format; files of another format are dropped."""

MAX_READERS = 8
"""Readers that are noted. The one checked longest ago is forgotten first, and has to ask again."""

NEVER = 0.0
"""The time of a check that is not known."""

_FIXED = struct.Struct("<8sIIQII")  # magic, format, block bytes, size, JSON length, CRC-32
_MAGIC = b"rangesrv"

_READS = 3
"""A header that another process is rewriting may be read half old, half new (on ext4 1 in 400, if
it is rewritten all the time). That is no reason to drop the file.
"""


@dataclass(frozen=True, slots=True)
class Header:
    """``readers`` are the identities that the origin has given bytes of this version, each with the
    time when the origin last said to it that the version is current, in seconds since the epoch.
    Any other identity must ask the origin before it is served from the file.
    """

    cache_key: str
    facts: ObjectFacts
    block_bytes: int
    readers: Mapping[str, float]

    @property
    def checked(self) -> float:
        """When the origin was last asked, for any reader."""
        return max(self.readers.values(), default=NEVER)

    @property
    def layout(self) -> Layout:
        """Where the blocks are."""
        return Layout(self.facts.size, self.block_bytes)

    def with_reader(self, reader: str, facts: ObjectFacts, moment: float) -> Header:
        """The header after the origin has given these facts to a reader."""
        readers = {**self.readers, reader: moment}
        latest = sorted(readers, key=readers.__getitem__)[-MAX_READERS:]
        return replace(self, facts=facts, readers={name: readers[name] for name in latest})

    def without_reader(self, reader: str) -> Header:
        """The header after the origin has refused the object to a reader."""
        left = {name: moment for name, moment in self.readers.items() if name != reader}
        return replace(self, readers=left)


def pack_header(header: Header) -> bytes:
    """The header as bytes. Raises ``ValueError`` if the facts are too large for it."""
    described = {
        "place": header.cache_key,
        "checked": header.checked,  # all that earlier versions look for
        "readers": header.readers,
        "facts": _stored(header.facts),
    }
    text = json.dumps(described, separators=(",", ":")).encode()
    if _FIXED.size + len(text) > HEADER_BYTES:
        msg = "its facts are too large for a header"
        raise ValueError(msg)
    fixed = (_MAGIC, FORMAT, header.block_bytes, header.facts.size, len(text))
    checksum = zlib.crc32(text, zlib.crc32(_FIXED.pack(*fixed, 0)))
    return (_FIXED.pack(*fixed, checksum) + text).ljust(HEADER_BYTES, b"\0")


def read_header(raw: bytes) -> Header:
    """The header in the first bytes of a file. Raises :class:`InvalidCacheFile`."""
    if not begins_as_ours(raw):
        msg = "not a cache file"
        raise ForeignFile(msg)
    if len(raw) < HEADER_BYTES:
        msg = "too short"
        raise InvalidCacheFile(msg)
    magic, version, block_bytes, size, length, checksum = _FIXED.unpack_from(raw)
    if magic != _MAGIC:
        msg = "without a header"
        raise InvalidCacheFile(msg)
    if version != FORMAT:
        msg = f"format {version}, not {FORMAT}"
        raise InvalidCacheFile(msg)
    text = raw[_FIXED.size : _FIXED.size + length]
    fixed = _FIXED.pack(magic, version, block_bytes, size, length, 0)
    if len(text) != length or zlib.crc32(text, zlib.crc32(fixed)) != checksum:
        msg = "damaged header"
        raise InvalidCacheFile(msg)
    try:
        described = json.loads(text)
        facts = described["facts"]
        header = Header(
            cache_key=described["place"],
            facts=ObjectFacts(**{**facts, "key": ObjectKey(facts["key"])}),
            block_bytes=block_bytes,
            readers=_readers(described.get("readers", {})),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        msg = "facts of another kind"
        raise InvalidCacheFile(msg) from None
    if header.facts.size != size or not MIN_BLOCK_BYTES <= block_bytes <= MAX_BLOCK_BYTES:
        msg = "contradicts itself"
        raise InvalidCacheFile(msg)
    return header


def load_header(descriptor: int) -> Header:
    """The header of an open file; blocks. Raises :class:`InvalidCacheFile` and ``OSError``."""
    for _ in range(_READS - 1):
        with suppress(InvalidCacheFile):
            return read_header(os.pread(descriptor, HEADER_BYTES, 0))
    return read_header(os.pread(descriptor, HEADER_BYTES, 0))


def begins_as_ours(raw: bytes) -> bool:
    """Whether these are the first bytes of a cache file, of any format and however damaged; or
    nothing, or zeros, which is what a machine that crashed leaves of a new file.
    """
    return raw.startswith(_MAGIC) or not any(raw[:HEADER_BYTES])


def _stored(facts: ObjectFacts) -> dict[str, object]:
    """Facts except those that have their default, or are noted elsewhere in the header."""
    left_out = {"validated_at"} if facts.upstream_age else {"validated_at", "upstream_age"}
    named = asdict(facts).items()
    return {name: value for name, value in named if value is not None and name not in left_out}


def _readers(described: dict[str, float]) -> dict[str, float]:
    return {str(name): float(moment) for name, moment in described.items()}
