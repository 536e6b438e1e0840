"""How many connections there may be, and how many there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

MAX_REFUSALS = 64
"""Connections being refused at once; further ones are closed without a word, lest those that
are admitted lack descriptors for the origin."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be in all, and from one address (0: no limit)."""

    total: int
    per_client: int


class Place(Enum):
    """What a connection counts as."""

    NONE = 0
    ADMITTED = 1
    REFUSED = 2


class Places:
    """Counts the connections, from the moment they are accepted."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._by_client: Counter[str] = Counter()
        self.taken = 0
        """Connections that are admitted."""
        self.refusing = 0
        """Connections that are just being told that there is no place."""

    def take(self, peer: str) -> Place:
        """Count a new connection: as admitted or, if it is one too many, as being refused."""
        per_client = self._limits.per_client
        if self.taken < self._limits.total and not (
            per_client and self._by_client[peer] >= per_client
        ):
            self.taken += 1
            self._by_client[peer] += 1
            return Place.ADMITTED
        if self.refusing >= MAX_REFUSALS:
            return Place.NONE
        self.refusing += 1
        return Place.REFUSED

    def leave(self, place: Place, peer: str) -> None:
        """A connection that had this place has ended."""
        if place is Place.REFUSED:
            self.refusing -= 1
            return
        self.taken -= 1
        self._by_client[peer] -= 1
        if not self._by_client[peer]:
            del self._by_client[peer]
