"""Which slots are recalled for those that wait. This module only decides.

An idle slot may go to a client that has no more slots than its holder. One in use, after a turn,
may go to a client that has at least two slots less, so that shares become fair and then stay; or to
a waiting body of the same client that has begun, so that both make progress.
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
    """A slot that may be recalled: ``idle`` since ``since``, or else in use since then."""

    slot: T
    client: str
    since: float
    idle: bool


@dataclass(slots=True)
class Line:
    """How many requests of a client wait; ``begun`` of them for a body that has begun."""

    client: str
    waiting: int
    begun: int


def to_recall(
    lent: Iterable[Lent[T]], lines: Iterable[Line], held: Mapping[str, int], *, at_most: int
) -> list[T]:
    """The slots to recall now, for those that wait."""
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
        found.append(victim.slot)
        shares[victim.client] -= 1
        shares[line.client] += 1
        line.waiting -= 1
        line.begun = max(line.begun - 1, 0)  # they go first
        if not line.waiting:
            waiting.remove(line)
    return found


class _Victims(Generic[T]):
    """Slots by client, those first that have been idle, or in use, for longest."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._added: defaultdict[str, list[Lent[T]]] = defaultdict(list)
        self._sorted: dict[str, list[Lent[T]]] = {}

    def add(self, lent: Lent[T]) -> None:
        self._added[lent.client].append(lent)

    def take(self, shares: Mapping[str, int], *, at_least: int) -> Lent[T] | None:
        """A slot of the client that has most, if that is at least ``at_least``."""
        if not self._added:
            return None
        most = max(self._added, key=lambda client: shares[client])
        return self.take_from(most) if shares[most] >= at_least else None

    def take_from(self, client: str) -> Lent[T] | None:
        """A slot of this client."""
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
