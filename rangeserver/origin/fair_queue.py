"""Whose turn it is when less is left than is wanted: that of the client who has least.

This is max-min fairness, without a setting: a client that is alone may have everything, and two
that want more than half have half each. Of those who have the same, whoever waits longest comes
first, and so it goes round. Within a client it is first come, first served, but that a response
which has begun goes before one that could still be refused. Bookkeeping, nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

_SPARE = 64


class FairQueue(Generic[T]):
    """Who waits, in the order of their turns, and how much each client has."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        """By client; who has nothing is not in it."""
        self._lines: dict[str, _Line[T]] = {}
        self._turns: list[tuple[int, int, str]] = []
        """A heap; of each client that waits its last entry counts, and those before are stale."""
        self._numbers = count()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __len__(self) -> int:
        return sum(len(line.begun) + len(line.new) for line in self._lines.values())

    def take(self, client: str, amount: int = 1) -> None:
        """A client has so much more."""
        self._change(client, amount)

    def give(self, client: str, amount: int = 1) -> None:
        """A client has so much less."""
        self._change(client, -amount)

    def wait(self, client: str, waiter: T, *, begun: bool = False) -> None:
        """Get in line; ``begun`` if a response would have to be cut off otherwise."""
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = _Line()
            self._queue(client, line)
        (line.begun if begun else line.new)[waiter] = None

    def leave(self, client: str, waiter: T) -> None:
        """Get out of it; nothing, if it was one's turn."""
        line = self._lines.get(client)
        if line is not None:
            line.begun.pop(waiter, None)
            line.new.pop(waiter, None)
            if not (line.begun or line.new):
                del self._lines[client]

    def first(self) -> tuple[str, T] | None:
        """The client and the waiter whose turn it is; they stay in line."""
        while self._turns:
            _, number, client = self._turns[0]
            line = self._lines.get(client)
            if line is not None and line.number == number:
                return client, next(iter(line.begun or line.new))
            heappop(self._turns)
        return None

    def lines(self) -> Iterator[tuple[str, int, int]]:
        """The clients that wait, with how many requests, and how many of them have begun."""
        for client, line in self._lines.items():
            yield client, len(line.begun) + len(line.new), len(line.begun)

    def _change(self, client: str, amount: int) -> None:
        held = self.held[client] + amount
        if held:
            self.held[client] = held
        else:
            del self.held[client]
        line = self._lines.get(client)
        if line is not None:
            self._queue(client, line)

    def _queue(self, client: str, line: _Line[T]) -> None:
        line.number = next(self._numbers)
        heappush(self._turns, (self.held[client], line.number, client))
        if len(self._turns) > 2 * len(self._lines) + _SPARE:
            self._turns = [
                (self.held[client], line.number, client) for client, line in self._lines.items()
            ]
            heapify(self._turns)


class _Line(Generic[T]):
    """Those of one client who wait; dictionaries, for whoever leaves is somewhere in the middle."""

    def __init__(self) -> None:
        self.begun: dict[T, None] = {}
        self.new: dict[T, None] = {}
        self.number = 0
        """Of the entry that counts."""
