"""The names that requests have for objects, which the cache knows by endpoint, bucket and key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from rangeserver.cache.cache_key import cache_key_of, split_cache_key
from rangeserver.config import Mount
from rangeserver.protocol.mounts import MountTable


class Addresses:
    """The names of objects by the mounts of a configuration: the path of a URL, decoded and without
    its first slash.
    """

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self._table = MountTable((mount.path, mount) for mount in mounts)
        self._by_bucket: defaultdict[str, list[Mount]] = defaultdict(list)
        for mount in mounts:
            self._by_bucket[_bucket_key(mount)].append(mount)

    def find(self, name: str) -> tuple[Mount, str] | None:
        """The mount of a name, and the key below it."""
        found = self._table.find(name)
        return found if found is not None and found[1] else None

    def names(self, cache_key: str) -> Iterator[str]:
        """Every name of the object of a cache key; none if it is not served."""
        endpoint, bucket, key = split_cache_key(cache_key)
        for mount in self._by_bucket[cache_key_of(endpoint, bucket, "")]:
            prefix = mount.origin.prefix
            rest = key.removeprefix(prefix)
            name = mount.path[1:] + rest
            # A longer mount may hide it.
            if rest and key.startswith(prefix) and self._table.find(name) == (mount, rest):
                yield name


def mounted_cache_key(mount: Mount, key: str) -> str:
    """The cache key of an object of a mount."""
    origin = mount.origin
    return cache_key_of(origin.endpoint_url, origin.bucket, origin.prefix + key)


def _bucket_key(mount: Mount) -> str:
    return cache_key_of(mount.origin.endpoint_url, mount.origin.bucket, "")
