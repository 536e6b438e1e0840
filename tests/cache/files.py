"""Cache files made by hand: alone, and in a directory as a server would have left them."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from rangeserver.cache import opening
from rangeserver.cache.blocks import MIN_BLOCK_BYTES
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.cache_key import cache_key_of
from rangeserver.cache.directory import Directory
from rangeserver.cache.header import Header
from rangeserver.cache.open_directory import OpenDirectory
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

BLOCK = MIN_BLOCK_BYTES
READER = "somebody"

# A file alone.
DATA = random.Random(4).randbytes(3 * BLOCK + 100)
FACTS = ObjectFacts(ObjectKey("a"), len(DATA), '"v1"')
PLACE = "aws films a"

# One in a directory.
CONTENT = random.Random(3).randbytes(10 * BLOCK + 100)  # 11 blocks, the last of them short
NOW = 1_800_000_000.0


def header(facts: ObjectFacts = FACTS, cache_key: str = PLACE, checked: float = 5.0) -> Header:
    return Header(cache_key, facts, BLOCK, {READER: checked})


def new_file(
    path: Path, facts: ObjectFacts = FACTS, *, close: Callable[[int], object] = os.close
) -> CacheFile:
    return opening.create_file(_directory_of(path), path.name, header(facts), close=close)


def open_file(path: Path) -> CacheFile:
    return opening.open_file(_directory_of(path), path.name, owner=os.geteuid(), close=os.close)


def _directory_of(path: Path) -> OpenDirectory:
    return OpenDirectory.at(path.parent, close=os.close)


def fill_block(file: CacheFile, block: int, content: bytes = DATA) -> None:
    span = file.layout.span(block, block + 1)
    data = content[span.start : span.stop]
    file.write(data, span.start)
    file.record(block, zlib.crc32(data))


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
    cache_key = cache_key_of(endpoint_url, bucket, key)
    file = directory.create(header(facts, cache_key, checked=NOW - 60))
    for block in blocks:
        fill_block(file, block, CONTENT)
    os.utime(file.fileno(), (used, used))
    return Path(directory.path_of(cache_key))


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
