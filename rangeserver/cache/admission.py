"""Whether a small read is worth fetching whole blocks: a doorkeeper, and a token bucket per client.

Blocks are much larger than what some clients ask for. A client that reads a byte here and a byte
there would cause a block to be fetched for each, and evict what others watch. So a read of less
than half of the blocks that it touches is passed on to the origin as it is, the first time. The
blocks are fetched when something of them is asked for again; and at once where a read is expected:
after what is cached, and at the end of an object, where players look for an index.

Reads of next to nothing, again and again, are limited by a token bucket.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable

from rangeserver import lru
from rangeserver.origin.base import current_client

_REMEMBERED = 1 << 16
"""Blocks that were read before, remembered in 8 bytes each."""

_TINY = 16
"""A read that causes more than this many times its bytes to be fetched takes tokens."""

_MOST_BYTES = 16 << 20
_MOST_BLOCKS = 4
_BYTES_PER_SECOND = 1 << 20
"""The token bucket of a client: its size (some blocks at least), and its rate."""

_CLIENTS = 4096
"""Clients whose buckets are kept; the bucket of any other client is full."""


def is_small(length: int, fetched: int) -> bool:
    """Whether a read of ``length`` bytes is small compared to the ``fetched`` bytes it causes."""
    return fetched > 2 * length


class Admission:
    """Decides about small reads; ``clock`` is monotonic."""

    def __init__(self, block_bytes: int, clock: Callable[[], float]) -> None:
        self._block_bytes = block_bytes
        self._seen = _Doorkeeper()
        most = max(_MOST_BYTES, _MOST_BLOCKS * block_bytes)
        self._buckets = _TokenBuckets(most, _BYTES_PER_SECOND, clock)

    def admits(
        self, cache_key: str, start: int, stop: int, *, fetched: int, expected: bool
    ) -> bool:
        """Whether to fetch blocks of ``fetched`` bytes for a small read of ``[start, stop)``, for
        the client of this context; it may be ``expected`` there.
        """
        first, last = start // self._block_bytes, (stop - 1) // self._block_bytes
        seen = [self._seen(hash((cache_key, block))) for block in {first, last}]
        if not (expected or any(seen)):
            return False
        return fetched <= _TINY * (stop - start) or self._buckets.spend(current_client(), fetched)


class _Doorkeeper:
    """Remembers hashes; in each slot the latest one."""

    def __init__(self) -> None:
        self._hashes = array("q", bytes(8 * _REMEMBERED))

    def __call__(self, value: int) -> bool:
        """Remember a hash; returns whether it was remembered before."""
        # The last bits of the hashes of tuples that differ in a number are too similar.
        slot = (value >> 20) % _REMEMBERED
        before, self._hashes[slot] = self._hashes[slot], value
        return before == value


class _TokenBuckets:
    """Bytes that each client may still cause to be fetched."""

    def __init__(self, most: int, per_second: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._per_second = per_second
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, client: str, amount: int) -> bool:
        """Take an amount, if there is enough."""
        now = self._clock()
        left, at = self._left.get(client, (self._most, now))
        left = min(left + (now - at) * self._per_second, self._most) - amount
        if left < 0:
            return False
        lru.put(self._left, client, (left, now), max_entries=_CLIENTS)
        return True
