"""Caches over an origin in memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rangeserver.cache.cache import Cache
from rangeserver.cache.caching_origin import CachingOrigin
from rangeserver.cache.metrics import CacheMetrics
from rangeserver.config import CacheConfig, OriginConfig
from rangeserver.metrics import Metrics
from rangeserver.origin.base import FileSlice, Part, ReadReport, Representation, reporting
from rangeserver.protocol.ranges import WHOLE, AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from tests.cache.files import BLOCK
from tests.cache.model_origin import MemoryOrigin
from tests.exposition import scrape
from tests.support import eventually


class Setting:
    """One process: its cache and the origin behind it."""

    def __init__(self, directory: Path, inner: MemoryOrigin, config: CacheConfig) -> None:
        self.inner = inner
        self.metrics = Metrics()
        self.cache = Cache(directory, config, CacheMetrics(self.metrics.registry), wait_seconds=5.0)
        self.origin = CachingOrigin(inner, self.cache, OriginConfig(bucket="films"), lambda: "me")

    async def open(self, key: str = "a", wanted: AskedRange = WHOLE) -> Representation[Part]:
        """Open and leave again."""
        async with self.origin.open(ObjectKey(key), wanted) as opened:
            return opened

    async def read(
        self, facts: ObjectFacts, span: ByteSpan | None = None, report: ReadReport | None = None
    ) -> bytes:
        span = span or ByteSpan(0, facts.size)
        with reporting(report or ReadReport()):
            async with self.origin.read(facts, span) as parts:
                return b"".join([content(part) async for part in parts])

    def counted(self, name: str, **labels: str) -> float:
        return scrape(self.metrics)(f"rangeserver_cache_{name}", **labels)


def content(part: Part) -> bytes:
    if isinstance(part, FileSlice):
        return os.pread(part.file.fileno(), part.length, part.offset)
    return part


@asynccontextmanager
async def setting(directory: Path, inner: MemoryOrigin, **settings: Any) -> AsyncIterator[Setting]:
    """Fails on leaving if anything is left of a read."""
    config = {"block_bytes": BLOCK, "min_free_bytes": 0, "ttl_seconds": 0, **settings}
    made = Setting(directory, inner, CacheConfig.model_validate(config))
    await made.cache.open()
    try:
        yield made
        await eventually(lambda: not made.cache.tasks)
        assert made.cache.budget.taken == 0
        assert all(not entry.filling for entry in made.cache.entries)
        await eventually(lambda: inner.open_now == 0)
    finally:
        await made.cache.close()
