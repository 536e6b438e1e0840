"""Cache files for tests, small ones."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

from rangeserver.cache.blocks import MIN_BLOCK_BYTES
from rangeserver.cache.cache_file import CacheFile
from rangeserver.cache.header import Header
from rangeserver.cache.held_directory import HeldDirectory
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

BLOCK = MIN_BLOCK_BYTES
DATA = random.Random(4).randbytes(3 * BLOCK + 100)
FACTS = ObjectFacts(ObjectKey("a"), len(DATA), '"v1"')
PLACE = "aws films a"


def header(facts: ObjectFacts = FACTS, place: str = PLACE, checked: float = 5.0) -> Header:
    return Header(place, facts, BLOCK, {"somebody": checked})


def new_file(
    path: Path, facts: ObjectFacts = FACTS, *, close: Callable[[int], object] = os.close
) -> CacheFile:
    return CacheFile.created(_directory_of(path), path.name, header(facts), close=close)


def open_file(path: Path) -> CacheFile:
    return CacheFile.opened(_directory_of(path), path.name, owner=os.geteuid(), close=os.close)


def _directory_of(path: Path) -> HeldDirectory:
    return HeldDirectory.at(path.parent, close=os.close)


def fill_block(file: CacheFile, block: int) -> None:
    span = file.layout.span(block, block + 1)
    data = DATA[span.start : span.stop]
    file.write(data, span.start)
    file.record(block, zlib.crc32(data))
