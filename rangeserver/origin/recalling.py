"""Which places are taken back for those who wait. Arithmetic, nothing else.

A place that is idle goes to whoever has no more places than its holder. One that is used, for a
turn at least, goes to whoever has at least two places less, so that fair shares come about and
then stay; and to a body of the same client that has begun and waits, so that both get on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lent(Generic[T]):
    """A place that may be taken back: ``idle`` since a moment, or else used since then."""

    place: T
    client: str
    since: float
    idle: bool


@dataclass(slots=True)
class Line:
    """How many requests of one client wait; ``begun`` of them for a body that has begun."""

    client: str
    waiting: int
    begun: int


def to_recall(
    lent: Iterable[Lent[T]], lines: Iterable[Line], held: Mapping[str, int], *, at_most: int
) -> list[T]:
    """The places to take back now, so that those who wait can have them."""
    shares = Counter(held)
    idle, used = _Victims[T](at_most), _Victims[T](at_most)
    for each in lent:
        (idle if each.idle else used).add(each)
    found: list[T] = []
    waiting = nsmallest(at_most, lines, key=lambda line: shares[line.client])
    while waiting and len(found) < at_most:
        line = min(waiting, key=lambda line: shares[line.client])
        share = shares[line.client]
        victim = idle.take(shares, at_least=share) or used.take(shares, at_least=share + 2)
        if victim is None and line.begun:
            victim = used.take_from(line.client)
        if victim is None:
            waiting.remove(line)
            continue
        found.append(victim.place)
        shares[victim.client] -= 1
        shares[line.client] += 1
        line.waiting -= 1
        line.begun = max(line.begun - 1, 0)  # they go first
        if not line.waiting:
            waiting.remove(line)
    return found


class _Victims(Generic[T]):
    """Places by client, those first that have been as they are for longest."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._added: defaultdict[str, list[Lent[T]]] = defaultdict(list)
        self._sorted: dict[str, list[Lent[T]]] = {}

    def add(self, lent: Lent[T]) -> None:
        self._added[lent.client].append(lent)

    def take(self, shares: Mapping[str, int], *, at_least: int) -> Lent[T] | None:
        """One of the client who has most, if that is so much."""
        if not self._added:
            return None
        most = max(self._added, key=lambda client: shares[client])
        return self.take_from(most) if shares[most] >= at_least else None

    def take_from(self, client: str) -> Lent[T] | None:
        """One of this client."""
        if client not in self._added:
            return None
        ordered = self._sorted.get(client)
        if ordered is None:
            longest = nsmallest(self._at_most, self._added[client], key=lambda each: each.since)
            ordered = self._sorted[client] = longest[::-1]
        victim = ordered.pop()
        if not ordered:
            del self._added[client]
        return victim
