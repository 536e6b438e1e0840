"""Which mount a key is below: the one with the longest path.

The paths are kept as a tree of their segments, so that a look-up walks down the key and costs
the same whether there is one mount or a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Node(Generic[T]):
    """A place in the tree; ``mounted`` holds at most one value."""

    children: dict[str, _Node[T]] = field(default_factory=dict)
    mounted: list[T] = field(default_factory=list)


class MountTable(Generic[T]):
    """Values by the path, decoded and with a slash at both ends, below which they are mounted.

    Raises ``ValueError`` for other paths, and for one that is there twice.
    """

    def __init__(self, mounts: Iterable[tuple[str, T]]) -> None:
        self._root: _Node[T] = _Node()
        for path, value in mounts:
            if not (path.startswith("/") and path.endswith("/")):
                msg = f"mount path {path!r}: expected a slash at both ends"
                raise ValueError(msg)
            node = self._root
            for segment in path[1:].split("/")[:-1]:
                node = node.children.setdefault(segment, _Node())
            if node.mounted:
                msg = f"mount path {path!r}: there are two of it"
                raise ValueError(msg)
            node.mounted.append(value)

    def find(self, key: str) -> tuple[T, str] | None:
        """The value mounted above ``key``, decoded and without its leading slash, and the rest.

        ``None`` where nothing is mounted. A mount's path without its last slash is outside of it.
        """
        node = self._root
        found = node.mounted
        start = rest = 0
        # Invariant: key[:start] leads to node, and key[:rest] to the last mount on that way.
        while (slash := key.find("/", start)) >= 0:
            child = node.children.get(key[start:slash])
            if child is None:
                break
            node, start = child, slash + 1
            if node.mounted:
                found, rest = node.mounted, start
        return (found[0], key[rest:]) if found else None
