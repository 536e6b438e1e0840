"""How many connections there may be, and who has to go when one more comes.

A connection on which nothing is being asked costs its client nothing: it may open another. So those
are the first to go, and first of all those of whoever has most. A limit for each client would do
the same to one who hoards, but also to a proxy, behind which all clients have one address. Who has
an IPv6 address has 2**64 of them, and counts as one (:mod:`rangeserver.protocol.client_address`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from heapq import nsmallest
from typing import Protocol

from rangeserver.protocol.client_address import client_of

MAX_REFUSALS = 64
"""Connections being refused at once; further ones are closed without a word, lest those that
are admitted lack descriptors for the origin."""

MAX_LEAVING = 32
"""Connections that are told to go at once, to make room for those that come next as well: to look
through all of them for each newcomer would cost more than to answer it."""

_LOOK_AGAIN_SECONDS = 0.02
"""After nobody was found who could go."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be in all, and of one client (0: no limit)."""

    total: int
    per_client: int


class Place(Enum):
    """What a connection counts as."""

    NONE = 0
    ADMITTED = 1
    REFUSED = 2


class Occupant(Protocol):
    """Whoever takes a place."""

    @property
    def peer(self) -> str:
        """The address of the client."""
        ...

    @property
    def waiting_since(self) -> float | None:
        """Since when it has been waiting for a request; ``None`` while it answers one."""
        ...

    def give_way(self) -> bool:
        """Close, if nothing has come meanwhile; whether it does."""
        ...


class Places:
    """Counts the connections, from the moment they are accepted."""

    def __init__(
        self, limits: ConnectionLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._clock = clock
        # In the order in which they came: clocks of loops are no finer than a millisecond.
        self._by_client: dict[str, dict[Occupant, None]] = {}
        self._look_again = 0.0
        self._empty: asyncio.Future[None] | None = None
        self.taken = 0
        """Connections that are admitted."""
        self.refusing = 0
        """Connections that are just being told that there is no place."""

    def take(self, newcomer: Occupant) -> Place:
        """Count a new connection: as admitted or, if it is one too many, as being refused."""
        client = client_of(newcomer.peer)
        if self._has_room_for(client) or self._makes_room_for(client):
            self._by_client.setdefault(client, {})[newcomer] = None
            self.taken += 1
            return Place.ADMITTED
        if self.refusing >= MAX_REFUSALS:
            return Place.NONE
        self.refusing += 1
        return Place.REFUSED

    def leave(self, occupant: Occupant) -> None:
        """A connection that was admitted has ended; nothing, if it gave way before."""
        client = client_of(occupant.peer)
        of_client = self._by_client.get(client)
        if of_client is None or occupant not in of_client:
            return
        del of_client[occupant]
        if not of_client:
            del self._by_client[client]
        self.taken -= 1
        if not self.taken and self._empty is not None:
            self._empty.set_result(None)
            self._empty = None

    async def are_empty(self) -> None:
        """Return once nobody is left of those who were admitted."""
        if self.taken:
            if self._empty is None:
                self._empty = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._empty)

    def refused(self) -> None:
        """A connection that was refused has ended."""
        self.refusing -= 1

    def _has_room_for(self, client: str) -> bool:
        return self.taken < self._limits.total and not self._has_its_share(client)

    def _has_its_share(self, client: str) -> bool:
        return 0 < self._limits.per_client <= len(self._by_client.get(client, ()))

    def _makes_room_for(self, client: str) -> bool:
        """Send away some of those that wait."""
        if self._has_its_share(client):
            self._send_away([self._by_client[client]])
        elif self._clock() >= self._look_again and not self._send_away(self._by_client.values()):
            self._look_again = self._clock() + _LOOK_AGAIN_SECONDS
        return self._has_room_for(client)

    def _send_away(self, clients: Iterable[dict[Occupant, None]]) -> bool:
        waiting = [
            (-len(of_client), since, occupant)
            for of_client in clients
            for occupant in of_client
            if (since := occupant.waiting_since) is not None
        ]
        count = max(1, min(MAX_LEAVING, len(waiting) // 16))
        leaving = [
            occupant
            for _, _, occupant in nsmallest(count, waiting, key=lambda each: each[:2])
            if occupant.give_way()
        ]
        for occupant in leaving:
            self.leave(occupant)
        return bool(leaving)
