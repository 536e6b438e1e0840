"""One budget of open files: who takes how many, and how many clients there can be.

A client that finds none left is dropped without a word, and so is the cache, for all. So every user
has a share that it does not exceed, and it is the clients who have what is left.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace

from rangeserver.cache.open_entries import MAX_OPEN
from rangeserver.config import Config
from rangeserver.process.monitoring import ADMIN_CONNECTIONS
from rangeserver.process.places import MAX_REFUSALS

_SPARE = 128
"""For listening sockets, those who are leaving, the log, DNS, the disk, libraries."""


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """How many there are at most, by who has them."""

    clients: int
    per_client: int
    """With the cache, a response sends from a file that nobody else may have open any more."""
    cache: int
    """CachedObject open by the cache for the next readers."""
    origins: int
    others: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.clients * self.per_client + self.cache + self.origins + self.others

    def within(self, allowed: int) -> OpenFiles:
        """With fewer of the cache, and fewer clients, if there may be no more than ``allowed``."""
        if self.total <= allowed:
            return self
        left = allowed - self.origins - self.others
        cache = min(self.cache, max(1, left // 4))
        clients = min(self.clients, max(1, (left - cache) // self.per_client))
        return replace(self, clients=clients, cache=cache)

    def __str__(self) -> str:
        parts = [f"{self.clients} clients"]
        if self.per_client > 1:
            parts += [f"{self.clients} files that are sent to them", f"{self.cache} of the cache"]
        parts += [f"{self.origins} connections to the origin", f"{self.others} for the rest"]
        return f"{self.total} open files ({', '.join(parts)})"


def open_files(config: Config) -> OpenFiles:
    """What the configuration may need."""
    cached = config.cache.enabled
    admin = ADMIN_CONNECTIONS if config.admin.enabled else 0
    return OpenFiles(
        clients=config.server.max_connections,
        per_client=2 if cached else 1,
        cache=MAX_OPEN if cached else 0,
        origins=config.origin_connections(),
        others=admin + MAX_REFUSALS + _SPARE,
    )


def allowed_open_files(needed: int) -> int:
    """How many this process may have, after that was raised as far as needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if wanted > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft
