from __future__ import annotations

from typing import Any

import pytest

from rangeserver.cache.addresses import Addresses, mounted_cache_key
from rangeserver.cache.cache_key import cache_key_of, split_cache_key
from rangeserver.config import Config


def addresses(origin: dict[str, Any], *mounts: dict[str, Any]) -> Addresses:
    config = Config.model_validate({"origin": origin, "mounts": mounts})
    return Addresses(config.mounted())


MOUNTED = addresses(
    {"bucket": "films", "endpoint_url": "https://store/"},
    {"path": "/cuts/", "bucket": "cuts", "prefix": "public/"},
    {"path": "/cuts/own/", "bucket": "films", "endpoint_url": ""},
    {"path": "/again/", "bucket": "films"},
)


@pytest.mark.parametrize(
    ("name", "cache_key"),
    [
        ("a b.mp4", "https://store films a b.mp4"),
        ("cuts/a.mp4", "https://store cuts public/a.mp4"),
        ("cuts/own/a.mp4", "aws films a.mp4"),
        ("again/x/", "https://store films x/"),
        ("cuts", "https://store films cuts"),
        ("/x", "https://store films /x"),
    ],
)
def test_the_longest_mount_says_what_a_name_means(name: str, cache_key: str) -> None:
    found = MOUNTED.find(name)
    assert found is not None
    assert mounted_cache_key(*found) == cache_key
    assert name in MOUNTED.names(cache_key)


@pytest.mark.parametrize("name", ["", "cuts/", "cuts/own/"])
def test_a_mount_itself_is_no_object(name: str) -> None:
    assert MOUNTED.find(name) is None


def test_an_object_has_the_names_by_which_requests_reach_it() -> None:
    def names(key: str, bucket: str = "films", endpoint: str = "https://store") -> list[str]:
        return list(MOUNTED.names(cache_key_of(endpoint, bucket, key)))

    assert sorted(names("a.mp4")) == ["a.mp4", "again/a.mp4"]
    assert names("cuts/a.mp4") == ["again/cuts/a.mp4"]  # a mount hides it
    assert names("public/a.mp4", "cuts") == ["cuts/a.mp4"]
    assert names("public/own/a.mp4", "cuts") == []
    assert names("private/a.mp4", "cuts") == []
    assert names("public/", "cuts") == []
    assert names("a.mp4", endpoint="") == ["cuts/own/a.mp4"]
    assert names("a.mp4", "others") == []
    assert list(Addresses(()).names(cache_key_of("", "films", "a"))) == []


@pytest.mark.parametrize("key", ["a", "a b  c", " ", "/x", "é/🎬"])
def test_a_place_can_be_read(key: str) -> None:
    assert split_cache_key(cache_key_of("https://store/", "films", key)) == (
        "https://store",
        "films",
        key,
    )
    assert split_cache_key(cache_key_of("", "films", key)) == ("aws", "films", key)
