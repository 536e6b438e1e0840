"""What an object is called in a cache, by what it is called among those of all buckets."""

from __future__ import annotations

import hashlib


def place_of(endpoint_url: str, bucket: str, key: str) -> str:
    """The name of an object among those of all buckets; an empty endpoint is AWS."""
    return f"{endpoint_url.rstrip('/') or 'aws'} {bucket} {key}"


def read_place(place: str) -> tuple[str, str, str]:
    """The endpoint's URL (``aws`` for AWS), the bucket and the key that a place is made of."""
    endpoint, bucket, key = place.split(" ", 2)
    return endpoint, bucket, key


def name_of(place: str) -> str:
    """The name of an object's file."""
    return hashlib.blake2b(place.encode(), digest_size=20).hexdigest() + ".rsc"


def lock_byte(place: str) -> int:
    """The byte of the mark that is locked for an object; below 2 ** 56."""
    return int.from_bytes(hashlib.blake2b(place.encode(), digest_size=7).digest(), "big")
