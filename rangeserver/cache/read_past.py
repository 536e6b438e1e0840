"""Reads past the cache with a read that had begun for the cache."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing

from rangeserver.origin.attempts import AttemptedOrigin
from rangeserver.origin.base import Begun
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts


async def read_past(
    origin: AttemptedOrigin,
    facts: ObjectFacts,
    begun: Begun[bytes],
    stack: AsyncExitStack,
    wanted: ByteSpan,
) -> AsyncGenerator[bytes]:
    """The bytes of ``wanted``: first those of ``begun``, then those of a new read.

    Closing ``stack`` closes ``begun``, which does not begin after ``wanted``.
    """
    async with (
        aclosing(origin.resumed(facts, begun, stack)) as parts,
        aclosing(_cut(parts, begun.span, wanted)) as cut,
    ):
        async for part in cut:
            yield part
    await stack.aclose()
    rest = ByteSpan(max(wanted.start, begun.span.stop), wanted.stop)
    if rest.length > 0:
        async with origin.read(facts, rest) as following:
            async for part in following:
                yield part


async def _cut(
    parts: AsyncIterator[bytes], span: ByteSpan, wanted: ByteSpan
) -> AsyncGenerator[bytes]:
    """Of the bytes of ``span``, those of ``wanted``."""
    position = span.start
    async for part in parts:
        start = max(wanted.start - position, 0)
        piece = part[start : wanted.stop - position]
        position += len(part)
        if piece:
            yield piece
        if position >= wanted.stop:
            break
