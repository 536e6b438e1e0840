from __future__ import annotations

from pathlib import Path

import pytest

from rangeserver.config import AccessConfig, Mount, OriginConfig
from tests.config.written import loaded, problems

TEXT = """
[server]
max_connections = 1000
[origin]
bucket = "films"
prefix = "public/"
region = "eu-west-1"
max_connections = 100
forbidden_as_not_found = true
[access]
inline_types = ["video/*"]
[[mounts]]
path = "/x/"
bucket = "cuts"
[[mounts]]
path = "/x/y/"
bucket = "stills"
prefix = "jpeg/"
region = ""
max_connections = 10
forbidden_as_not_found = false
[mounts.access]
inline_types = ["image/*"]
"""


def test_a_mount_is_the_origin_with_what_it_sets_itself(tmp_path: Path) -> None:
    deep, flat, root = loaded(TEXT, tmp_path).mounted()
    assert root == Mount(
        "/",
        OriginConfig(
            bucket="films",
            prefix="public/",
            region="eu-west-1",
            max_connections=100,
            forbidden_as_not_found=True,
        ),
        AccessConfig(inline_types=("video/*",)),
    )
    assert flat == Mount(
        "/x/",
        OriginConfig(
            bucket="cuts", region="eu-west-1", max_connections=100, forbidden_as_not_found=True
        ),
        AccessConfig(inline_types=("video/*",)),
        "mounts[0]",
    )
    assert deep == Mount(
        "/x/y/",
        OriginConfig(bucket="stills", prefix="jpeg/", max_connections=10),
        AccessConfig(inline_types=("image/*",)),
        "mounts[1]",
    )


def test_without_a_bucket_of_its_own_the_origin_is_not_served(tmp_path: Path) -> None:
    config = loaded(TEXT.replace('bucket = "films"', ""), tmp_path)
    assert [mount.path for mount in config.mounted()] == ["/x/y/", "/x/"]


def test_without_mounts_the_origin_is_at_the_root(tmp_path: Path) -> None:
    config = loaded('[origin]\nbucket = "films"', tmp_path)
    assert config.mounted() == (Mount("/", config.origin, config.access),)


def test_a_path_is_there_once(tmp_path: Path) -> None:
    text = TEXT + '[[mounts]]\npath = "/x/"\nbucket = "more"\n'
    assert problems(text, tmp_path) == ["mounts: must have different paths: /x/ is there twice"]


def test_there_are_a_thousand_mounts_at_most(tmp_path: Path) -> None:
    mounts = [f'[[mounts]]\npath = "/{number}/"\nbucket = "b"\n' for number in range(1001)]
    assert len(loaded("".join(mounts[:1000]), tmp_path).mounts) == 1000
    (problem,) = problems("".join(mounts), tmp_path)
    assert problem.startswith("mounts: ")
    assert "at most 1000" in problem


def test_connections_are_counted_once_for_each_client(tmp_path: Path) -> None:
    # films and cuts share one, stills has its own.
    assert loaded(TEXT, tmp_path).origin_connections() == 100 + 10


def test_key_files_by_the_settings_that_name_them(tmp_path: Path) -> None:
    assert loaded(TEXT, tmp_path).customer_key_files() == {}
    text = TEXT.replace('"films"', '"films"\nsse_customer_key_file = "one"')
    text = text.replace('"stills"', '"stills"\nsse_customer_key_file = "two"')
    assert loaded(text, tmp_path).customer_key_files() == {
        "origin.sse_customer_key_file": "one",
        "mounts[1].sse_customer_key_file": "two",
    }


def test_a_mount_can_do_without_the_key_of_the_origin(tmp_path: Path) -> None:
    text = TEXT.replace('"films"', '"films"\nsse_customer_key_file = "one"')
    text = text.replace('"cuts"', '"cuts"\nsse_customer_key_file = ""')
    deep, flat, root = loaded(text, tmp_path).mounted()
    assert [mount.origin.sse_customer_key_file for mount in (deep, flat, root)] == [
        "one",
        "",
        "one",
    ]


def test_a_mount_cannot_be_changed(tmp_path: Path) -> None:
    (mount, *_) = loaded(TEXT, tmp_path).mounted()
    with pytest.raises(AttributeError):
        mount.path = "/"  # type: ignore[misc]
