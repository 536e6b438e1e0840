"""What fills and readers use of the cache that they belong to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from rangeserver.cache.budget import Budget
from rangeserver.cache.cache_file import Claim
from rangeserver.cache.disk import Disk
from rangeserver.cache.entry import Entry
from rangeserver.cache.metrics import CacheMetrics
from rangeserver.cache.polling import Poller

P = ParamSpec("P")
T = TypeVar("T")


class Means(Protocol):
    """What fills have in common."""

    disk: Disk
    poller: Poller
    budget: Budget
    metrics: CacheMetrics
    wait_seconds: float
    """For room in the budget."""
    tasks: set[asyncio.Task[Any]]
    """All that goes on without anybody waiting for it, every fill that runs."""

    def may_write(self) -> bool:
        """Whether the disk is written to at the moment."""
        ...

    def write_failed(self, error: OSError, entry: Entry) -> None:
        """It could not be written to, for an entry."""
        ...

    def found(self, entry: Entry, claim: Claim) -> None:
        """Something was found in the file of an entry."""
        ...

    def unreadable(self, entry: Entry, error: OSError) -> None:
        """The file of an entry could not be read."""
        ...

    async def write(self, count: int, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have ``call`` write so many bytes to it, once there is room for them."""
        ...
