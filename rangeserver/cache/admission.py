"""Which small reads are worth whole blocks: a doorkeeper, and what a client may cost beyond it.

Blocks are much larger than what some clients ask for: one byte here and one there would have a
block fetched for each, and push out of the cache what others watch. So a read that asks for less
than half of the blocks it touches is passed on to the origin as it is, the first time. Blocks are
kept once something of them is asked for again, and at once where a read is expected: behind what
is kept, and at the end of an object, where players look for an index.

Whoever asks for next to nothing again and again pays out of an account, which time fills up.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable

from rangeserver import lru
from rangeserver.origin.base import current_client

_REMEMBERED = 1 << 16
"""Blocks that something was asked of, in 8 bytes each."""

_TINY = 16
"""A read that has more than so many times its bytes fetched is paid for."""

_MOST_BYTES = 16 << 20
_MOST_BLOCKS = 4
_BYTES_PER_SECOND = 1 << 20
"""What one client has to spend: so much at once, some blocks at least, and so much each second."""

_CLIENTS = 4096
"""Accounts that are kept; one that is not is full."""


def is_small(length: int, fetched: int) -> bool:
    """Whether a read of ``length`` bytes is small for having ``fetched`` of them fetched."""
    return fetched > 2 * length


class Admission:
    """Decides about small reads, and remembers them; ``clock`` is monotonic."""

    def __init__(self, block_bytes: int, clock: Callable[[], float]) -> None:
        self._block_bytes = block_bytes
        self._seen = _Doorkeeper()
        most = max(_MOST_BYTES, _MOST_BLOCKS * block_bytes)
        self._accounts = _Accounts(most, _BYTES_PER_SECOND, clock)

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
        return fetched <= _TINY * (stop - start) or self._accounts.spend(current_client(), fetched)


class _Doorkeeper:
    """Remembers hashes; of those that fall on the same slot, the latest."""

    def __init__(self) -> None:
        self._hashes = array("q", bytes(8 * _REMEMBERED))

    def __call__(self, value: int) -> bool:
        """Remember one; whether it was before."""
        # Of tuples that differ in a number the last bits are not as different as they should be.
        slot = (value >> 20) % _REMEMBERED
        before, self._hashes[slot] = self._hashes[slot], value
        return before == value


class _Accounts:
    """Bytes that each client may still cost."""

    def __init__(self, most: int, per_second: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._per_second = per_second
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, client: str, amount: int) -> bool:
        """Take an amount, if there is as much."""
        now = self._clock()
        left, at = self._left.get(client, (self._most, now))
        left = min(left + (now - at) * self._per_second, self._most) - amount
        if left < 0:
            return False
        lru.put(self._left, client, (left, now), max_entries=_CLIENTS)
        return True
