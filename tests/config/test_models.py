from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from rangeserver.config import Config, OriginConfig, load_config
from rangeserver.config.tree import table_model
from rangeserver.errors import ConfigError
from tests.config.written import BUCKET, loaded

SHIPPED = Path(__file__).parent.parent.parent / "config.toml"


def test_the_shipped_file_has_every_setting_at_its_default() -> None:
    shipped = tomllib.loads(SHIPPED.read_text())
    assert shipped.keys() == Config.model_fields.keys() - {"mounts"}
    for section, values in shipped.items():
        model = table_model(Config.model_fields[section])
        assert model is not None
        assert values.keys() == model.model_fields.keys()
        assert model.model_validate(values) == model()


def test_the_mount_in_the_shipped_file_works_once_it_is_no_comment(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    example = text[text.index("# [[mounts]]") :]
    (mount,) = loaded("\n".join(line[2:] for line in example.splitlines()), tmp_path).mounted()
    assert (mount.path, mount.origin.bucket) == ("/trailers/", "my-trailers")
    assert (mount.origin.prefix, mount.origin.region) == ("public/", "eu-west-1")
    assert mount.access.inline_types == ("video/*",)


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "100000"])
def test_a_deadline_is_a_finite_positive_time(value: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.write_idle_seconds"):
        load_config(environ={"RANGESERVER_SERVER__WRITE_IDLE_SECONDS": value}, flags=BUCKET)


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "86401"])
def test_a_time_that_may_be_none_is_finite_and_not_negative(value: str) -> None:
    with pytest.raises(ConfigError, match=r"cache\.ttl_seconds"):
        load_config(environ={"RANGESERVER_CACHE__TTL_SECONDS": value}, flags=BUCKET)


@pytest.mark.parametrize("value", ["-0.1", "50.1", "nan", "inf"])
def test_hedges_are_a_part_of_all_requests(value: str) -> None:
    with pytest.raises(ConfigError, match=r"origin\.hedge_percent"):
        load_config(environ={"RANGESERVER_ORIGIN__HEDGE_PERCENT": value}, flags=BUCKET)


def test_media_types_are_compared_in_lower_case() -> None:
    environ = {"RANGESERVER_ACCESS__INLINE_TYPES": "Video/*"}
    assert load_config(environ=environ, flags=BUCKET).access.inline_types == ("video/*",)


OTHER: dict[str, Any] = {
    "region": "eu-west-1",
    "endpoint_url": "https://store",
    "signing": "per-request",
    "max_connections": 7,
    "sse_customer_key_file": "key",
    "max_attempts": 1,
}


def test_origins_that_differ_in_the_bucket_alone_are_one_endpoint() -> None:
    one = OriginConfig(bucket="films")
    other = OriginConfig(bucket="cuts", prefix="a/", forbidden_as_not_found=True)
    assert one.endpoint() == other.endpoint()
    assert {one.endpoint(): 1}[other.endpoint()] == 1


@pytest.mark.parametrize("name", OTHER)
def test_origins_that_differ_in_anything_else_are_two(name: str) -> None:
    one = OriginConfig(bucket="films")
    other = one.model_copy(update={name: OTHER[name]})
    assert one.endpoint() != other.endpoint()
    assert getattr(other.endpoint(), name) == OTHER[name]


def test_a_configuration_cannot_be_changed() -> None:
    config = load_config(environ={}, flags=BUCKET)
    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1  # type: ignore[misc]
