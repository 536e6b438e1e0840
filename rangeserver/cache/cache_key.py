"""The cache key of an object (endpoint, bucket and key), and what is derived from it."""

from __future__ import annotations

import hashlib


def cache_key_of(endpoint_url: str, bucket: str, key: str) -> str:
    """Names an object among those of all buckets; an empty endpoint is AWS."""
    return f"{endpoint_url.rstrip('/') or 'aws'} {bucket} {key}"


def split_cache_key(cache_key: str) -> tuple[str, str, str]:
    """The endpoint's URL (``aws`` for AWS), the bucket and the object key of a cache key."""
    endpoint, bucket, key = cache_key.split(" ", 2)
    return endpoint, bucket, key


def file_name(cache_key: str) -> str:
    """The name of the file of an object."""
    return hashlib.blake2b(cache_key.encode(), digest_size=20).hexdigest() + ".rsc"


def lock_byte(cache_key: str) -> int:
    """The byte of the mark whose lock is the lock on an object; below 2 ** 56."""
    return int.from_bytes(hashlib.blake2b(cache_key.encode(), digest_size=7).digest(), "big")
