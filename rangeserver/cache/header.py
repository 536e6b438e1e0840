"""The header of a cache file: which object's bytes it holds, and how they are laid out.

A file is worth something only to those who understand all of its header. Another format, a
checksum that is wrong, a length that does not fit: it is no file of ours.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from rangeserver.cache.blocks import (
    HEADER_BYTES,
    MAX_BLOCK_BYTES,
    MIN_BLOCK_BYTES,
    Layout,
)
from rangeserver.cache.errors import ForeignFile, InvalidCacheFile
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

FORMAT = 1
"""Goes up with every change of what stands in a file; files of another format are dropped."""

_FIXED = struct.Struct("<8sIIQII")  # magic, format, block bytes, size, JSON length, CRC-32
_MAGIC = b"rangesrv"


MAX_READERS = 8
"""Readers that are noted; who was told longest ago is forgotten first, and asks again."""

NEVER = 0.0
"""When the origin was last asked, of facts of which that is not known."""


@dataclass(frozen=True, slots=True)
class Header:
    """Which version of which object a file holds, and who may read it.

    ``readers`` are the identities that the origin has given bytes of this version, each with the
    time when the origin last said to it that this version is current, in seconds since the epoch.
    Any other identity must ask the origin before it is served from the file.
    """

    cache_key: str
    facts: ObjectFacts
    block_bytes: int
    readers: Mapping[str, float]

    @property
    def checked(self) -> float:
        """When the origin was last asked, by whomever."""
        return max(self.readers.values(), default=NEVER)

    def told(self, reader: str, facts: ObjectFacts, moment: float) -> Header:
        """As it is once a reader was told these facts."""
        readers = {**self.readers, reader: moment}
        latest = sorted(readers, key=readers.__getitem__)[-MAX_READERS:]
        return replace(self, facts=facts, readers={name: readers[name] for name in latest})

    def refused(self, reader: str) -> Header:
        """As it is once a reader was told that it is not for him."""
        left = {name: moment for name, moment in self.readers.items() if name != reader}
        return replace(self, readers=left)

    @property
    def layout(self) -> Layout:
        """Where the blocks are."""
        return Layout(self.facts.size, self.block_bytes)


def _stored(facts: ObjectFacts) -> dict[str, object]:
    """Facts but for those that are at their default, or are noted otherwise."""
    left_out = {"validated_at"} if facts.upstream_age else {"validated_at", "upstream_age"}
    named = asdict(facts).items()
    return {name: value for name, value in named if value is not None and name not in left_out}


def pack_header(header: Header) -> bytes | None:
    """The header as bytes; ``None`` if the facts are too many to be kept."""
    described = {
        "place": header.cache_key,
        "checked": header.checked,  # all that earlier versions look for
        "readers": header.readers,
        "facts": _stored(header.facts),
    }
    text = json.dumps(described, separators=(",", ":")).encode()
    if _FIXED.size + len(text) > HEADER_BYTES:
        return None
    fixed = (_MAGIC, FORMAT, header.block_bytes, header.facts.size, len(text))
    checksum = zlib.crc32(text, zlib.crc32(_FIXED.pack(*fixed, 0)))
    return (_FIXED.pack(*fixed, checksum) + text).ljust(HEADER_BYTES, b"\0")


def _readers(described: dict[str, float]) -> dict[str, float]:
    return {str(name): float(moment) for name, moment in described.items()}


def is_of_ours(raw: bytes) -> bool:
    """Whether the first bytes of a file are those of a cache file, of whatever format and however
    damaged; or nothing and zeros, which is what a machine that went down leaves of a new one.
    """
    return raw.startswith(_MAGIC) or not any(raw[:HEADER_BYTES])


def read_header(raw: bytes) -> Header:
    """The header in the first bytes of a file. Raises :class:`InvalidCacheFile`."""
    if not is_of_ours(raw):
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
