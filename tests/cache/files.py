"""Cache files made by hand, as a server would have left them."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

from rangeserver.cache.directory import Directory
from rangeserver.cache.header import Header
from rangeserver.cache.places import place_of
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

BLOCK = 16 * 1024
CONTENT = random.Random(3).randbytes(10 * BLOCK + 100)  # 11 blocks, the last of them short
NOW = 1_800_000_000.0
READER = "somebody"


def opened(path: Path) -> Directory:
    """A cache directory, made if it is not there."""
    directory = Directory(path)
    directory.open()
    return directory


def keep(
    directory: Directory,
    key: str,
    blocks: Sequence[int] = range(11),
    *,
    bucket: str = "films",
    endpoint_url: str = "",
    used: float = NOW,
) -> Path:
    """Keep some blocks of an object; where."""
    facts = ObjectFacts(ObjectKey(key), len(CONTENT), '"v1"')
    header = Header(place_of(endpoint_url, bucket, key), facts, BLOCK, {READER: NOW - 60})
    file = directory.create(header)
    for block in blocks:
        span = file.layout.span(block, block + 1)
        file.write(CONTENT[span.start : span.stop], span.start)
        file.record(block, zlib.crc32(CONTENT[span.start : span.stop]))
    os.utime(file.fileno(), (used, used))
    return Path(directory.path_of(header.place))


def damage(path: Path, block: int) -> None:
    """Change a byte of a block, without anyone noticing by the file's times."""
    stat = path.stat()
    with path.open("r+b") as file:
        offset = stat.st_size - len(CONTENT) + block * BLOCK
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, (stat.st_atime, stat.st_mtime))
