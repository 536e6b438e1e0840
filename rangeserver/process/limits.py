"""The limit on open files, which bounds connections."""

from __future__ import annotations

import resource

SPARE_DESCRIPTORS = 128
"""For connections being refused, listening sockets, log files, DNS, libraries."""


def descriptors_needed(connections: int) -> int:
    """Open files that so many connections, of clients and to the origin together, may take."""
    return connections + SPARE_DESCRIPTORS


def raise_descriptor_limit(connections: int) -> bool:
    """Raise the soft limit as far as needed and allowed; whether it suffices now."""
    needed = descriptors_needed(connections)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if wanted > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft >= needed
