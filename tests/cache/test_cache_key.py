from __future__ import annotations

from rangeserver.cache.cache_key import cache_key_of, file_name, lock_byte, split_cache_key


def test_names_of_objects() -> None:
    assert cache_key_of("http://s3/", "films", "a b") == "http://s3 films a b"
    assert cache_key_of("", "films", "a") == "aws films a"


def test_what_they_are_made_of() -> None:
    assert split_cache_key(cache_key_of("http://s3", "films", "a b")) == (
        "http://s3",
        "films",
        "a b",
    )


def test_files_and_locks_of_objects() -> None:
    cache_keys = [cache_key_of("", "films", str(number)) for number in range(1000)]
    assert len({file_name(cache_key) for cache_key in cache_keys}) == 1000
    assert all(0 <= lock_byte(cache_key) < 1 << 56 for cache_key in cache_keys)
