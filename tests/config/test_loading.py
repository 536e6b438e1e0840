from __future__ import annotations

from pathlib import Path

import pytest

from rangeserver.config import Config, OriginConfig, load_config
from rangeserver.errors import ConfigError
from tests.config.written import BUCKET, loaded, problems

REPOSITORY = Path(__file__).parent.parent.parent


def test_the_shipped_file_works_once_the_bucket_is_named() -> None:
    config = load_config(REPOSITORY / "config.toml", environ={}, flags=BUCKET)
    assert config == Config(origin=OriginConfig(bucket="films"))


def test_environment_wins_over_file_and_flags_over_both(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[server]\nhost = "192.0.2.1"\nport = 1\nmax_ranges = 2\n[origin]\nbucket = "file"\n'
    )
    config = load_config(
        path,
        environ={"RANGESERVER_SERVER__PORT": "2", "RANGESERVER_ORIGIN__BUCKET": "environment"},
        flags={"origin": {"bucket": "flag", "region": None}},
    )
    assert config.server.host == "192.0.2.1"
    assert config.server.max_ranges == 2
    assert config.server.port == 2
    assert config.origin.bucket == "flag"


@pytest.mark.parametrize(
    ("written", "expected"), [("8MiB", 8 << 20), ("64KiB", 65536), ("1kB", 1000), ("17", 17)]
)
def test_sizes_may_carry_a_unit(written: str, expected: int) -> None:
    environ = {"RANGESERVER_ORIGIN__MIN_BYTES_PER_SECOND": written}
    assert load_config(environ=environ, flags=BUCKET).origin.min_bytes_per_second == expected


def test_a_list_is_written_with_commas_in_the_environment() -> None:
    environ = {"RANGESERVER_ACCESS__INLINE_TYPES": "video/*, audio/*"}
    assert load_config(environ=environ, flags=BUCKET).access.inline_types == ("video/*", "audio/*")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[server\n", "is not valid TOML"),
        ('[server]\nport = 1\nport = 2\n[origin]\nbucket = "b"', "is not valid TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_one_problem(text: str, start: str, tmp_path: Path) -> None:
    (found,) = problems(text, tmp_path)
    assert start in found
    assert "\n" not in found


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "absent.toml", environ={})
    assert caught.value.problems == [
        f"{tmp_path / 'absent.toml'}: cannot be read: No such file or directory"
    ]


def test_a_file_that_is_not_text_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    assert caught.value.problems == [f"{path}: is not UTF-8 text"]


@pytest.mark.parametrize(
    "name", ["RANGESERVER_PORT", "RANGESERVER_SERVER_PORT", "RANGESERVER_SERVER__PROT"]
)
def test_unknown_variables_are_problems(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown setting"):
        load_config(environ={name: "1"}, flags=BUCKET)


def test_a_section_that_is_no_table_is_not_replaced_by_a_flag(tmp_path: Path) -> None:
    found = problems("server = 3", tmp_path, server={"port": 1}, origin={"bucket": "films"})
    assert found == ["server: must be a table"]


@pytest.mark.parametrize(
    "name", ["RANGESERVER_MOUNTS", "RANGESERVER_MOUNTS__PATH", "RANGESERVER_MOUNTS__0__BUCKET"]
)
def test_mounts_are_not_read_from_the_environment(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={name: "hunter2"}, flags=BUCKET)
    assert caught.value.problems == [
        f"{name}: mounts are read from a file only: write [[mounts]] there"
    ]


def test_new_sections_are_read_from_the_environment_too() -> None:
    environ = {"RANGESERVER_CACHE__TTL_SECONDS": "0", "RANGESERVER_ORIGIN__REQUEST_PAYER": "true"}
    config = load_config(environ=environ, flags=BUCKET)
    assert config.cache.ttl_seconds == 0
    assert config.origin.request_payer is True


MOUNT = '[[mounts]]\npath = "/x/"\nbucket = "cuts"\n'


def test_a_bucket_is_required(tmp_path: Path) -> None:
    assert problems("", tmp_path) == ["origin.bucket: must name the bucket to serve"]
    assert problems("mounts = []", tmp_path) == ["origin.bucket: must name the bucket to serve"]


def test_mounts_will_do_without_one(tmp_path: Path) -> None:
    assert [mount.path for mount in loaded(MOUNT, tmp_path).mounted()] == ["/x/"]


def test_flags_and_environment_set_what_mounts_inherit(tmp_path: Path) -> None:
    config = loaded(
        MOUNT,
        tmp_path,
        {"RANGESERVER_ORIGIN__REGION": "eu-west-1"},
        origin={"bucket": "films", "endpoint_url": "https://store"},
    )
    mounted, root = config.mounted()
    assert (mounted.origin.bucket, root.origin.bucket) == ("cuts", "films")
    for origin in (mounted.origin, root.origin):
        assert (origin.region, origin.endpoint_url) == ("eu-west-1", "https://store")


def test_a_bucket_is_named_unless_none_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"^origin\.bucket: must name the bucket to serve$"):
        load_config(environ={})
    config = load_config(environ={}, needs_bucket=False)
    assert config.mounted() == ()
