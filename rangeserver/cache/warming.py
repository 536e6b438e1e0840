"""Fetching objects into the cache before they are asked for.

They are fetched as by any request: through the same origin, into the same files, and shared with
servers that fetch the same at the moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rangeserver.cache.blocks import Layout
from rangeserver.cache.caching_origin import CachingOrigin
from rangeserver.cache.errors import NotCached
from rangeserver.cache.inspection import cached_bytes
from rangeserver.cache.limits import HIGH_WATER
from rangeserver.protocol.cache_control import may_be_stored
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey


@dataclass(frozen=True, slots=True)
class Plan:
    """Which bytes (whole blocks) of which version to fetch; ``there`` of them are cached."""

    facts: ObjectFacts
    span: ByteSpan
    there: int


async def plan_warming(origin: CachingOrigin, key: ObjectKey, wanted: AskedRange) -> Plan:
    """Ask the origin for the current version, and look which bytes of it are missing.

    Raises :class:`~rangeserver.errors.OriginError` and :class:`NotCached`.
    """
    cache = origin.cache
    facts = await origin.describe(key)
    if not may_be_stored(facts.cache_control):
        msg = f"its Cache-Control does not allow to keep it: {facts.cache_control}"
        raise NotCached(msg)
    span = wanted.span(facts.size)
    if facts.size and not span.length:
        msg = f"the range lies outside the object, which has {facts.size} bytes"
        raise NotCached(msg)
    entry = await cache.find(origin.cache_key(key))
    if entry is not None and entry.etag != facts.etag:
        entry = None
    layout = (
        entry.layout if entry is not None else Layout(facts.size, int(cache.config.block_bytes))
    )
    span = layout.span(*layout.blocks_of(span))
    if span.length > cache.config.max_bytes * HIGH_WATER:
        msg = f"{span.length} bytes are more than cache.max_bytes has room for"
        raise NotCached(msg)
    there = await cache.disk.run(cached_bytes, entry.file, span) if entry is not None else 0
    return Plan(facts, span, there)


async def fetch(origin: CachingOrigin, plan: Plan, *, on_bytes: Callable[[int], object]) -> None:
    """Fetch what is missing. ``on_bytes`` is called with the number of bytes of each part.

    What is cached is read too, and fetched again if it is damaged. Raises
    :class:`~rangeserver.errors.OriginError` and :class:`NotCached`; what was fetched stays.
    """
    if not plan.span.length:
        return
    async with origin.read(plan.facts, plan.span) as parts:
        async for part in parts:
            if isinstance(part, bytes):  # the cache could not take it
                msg = "the cache cannot be written to"
                raise NotCached(msg)
            on_bytes(len(part))
    cache = origin.cache
    entry = await cache.find(origin.cache_key(plan.facts.key))
    kept = 0
    if entry is not None and entry.etag == plan.facts.etag:
        kept = await cache.disk.run(cached_bytes, entry.file, plan.span)
        await cache.disk.run(entry.file.mark_reused)  # it is expected to be read again
    if kept < plan.span.length:
        msg = (
            f"{plan.span.length - kept} bytes of it are gone again: purged, replaced, or removed "
            "to make room (cache.max_bytes, cache.min_free_bytes)"
        )
        raise NotCached(msg)
