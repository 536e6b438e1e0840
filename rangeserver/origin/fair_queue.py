"""A fair queue: the next turn belongs to the client that has least.

This is max-min fairness, without a setting: a client that is alone may have everything, and two
that want more than half get half each. Among equals the one that waits longest comes first. Within
a client it is first come, first served, except that a response that has begun goes before one that
could still be refused. This module only does the accounting.
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
    """Waiters, in the order of their turns, and how much each client has."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        """By client; clients without anything are left out."""
        self._lines: dict[str, _Line[T]] = {}
        self._turns: list[tuple[int, int, str]] = []
        """A heap. Only the last entry of a waiting client is valid; older ones are stale."""
        self._numbers = count()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __len__(self) -> int:
        return sum(len(line.begun) + len(line.new) for line in self._lines.values())

    def take(self, client: str, amount: int = 1) -> None:
        """A client has ``amount`` more."""
        self._change(client, amount)

    def give(self, client: str, amount: int = 1) -> None:
        """A client has ``amount`` less."""
        self._change(client, -amount)

    def wait(self, client: str, waiter: T, *, begun: bool = False) -> None:
        """Join the queue; ``begun`` if a response has begun that would otherwise be cut off."""
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = _Line()
            self._queue(client, line)
        (line.begun if begun else line.new)[waiter] = None

    def leave(self, client: str, waiter: T) -> None:
        """Leave the queue, if the waiter is still in it."""
        line = self._lines.get(client)
        if line is not None:
            line.begun.pop(waiter, None)
            line.new.pop(waiter, None)
            if not (line.begun or line.new):
                del self._lines[client]

    def first(self) -> tuple[str, T] | None:
        """The client and the waiter whose turn it is; they stay in the queue."""
        while self._turns:
            _, number, client = self._turns[0]
            line = self._lines.get(client)
            if line is not None and line.number == number:
                return client, next(iter(line.begun or line.new))
            heappop(self._turns)
        return None

    def lines(self) -> Iterator[tuple[str, int, int]]:
        """Each waiting client, its number of requests, and how many of those have begun."""
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
    """The waiters of one client; dictionaries, because they leave from anywhere."""

    def __init__(self) -> None:
        self.begun: dict[T, None] = {}
        self.new: dict[T, None] = {}
        self.number = 0
        """The number of its valid entry."""
