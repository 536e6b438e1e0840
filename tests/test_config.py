from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from rangeserver.config import Config, OriginConfig, load_config
from rangeserver.errors import ConfigError

BUCKET = {"origin": {"bucket": "films"}}
REPOSITORY = Path(__file__).parent.parent


def problems(
    text: str, tmp_path: Path, environ: dict[str, str] | None = None, **flags: dict[str, object]
) -> list[str]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=environ or {}, flags=flags)
    return caught.value.problems


def test_the_shipped_file_has_every_setting_at_its_default() -> None:
    shipped = tomllib.loads((REPOSITORY / "config.toml").read_text())
    assert shipped.keys() == Config.model_fields.keys()
    for section, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        assert shipped[section].keys() == model.model_fields.keys()
        assert model.model_validate(shipped[section]) == model()


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


def test_media_types_are_compared_in_lower_case() -> None:
    environ = {"RANGESERVER_ACCESS__INLINE_TYPES": "Video/*"}
    assert load_config(environ=environ, flags=BUCKET).access.inline_types == ("video/*",)


@pytest.mark.parametrize("name", ["My Videos!", "a/b", "film\ne", "x" * 256])
def test_a_bucket_has_a_buckets_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"origin\.bucket: must be a bucket's name"):
        load_config(environ={}, flags={"origin": {"bucket": name}})


@pytest.mark.parametrize("prefix", ["a/../b/", "./", ".."])
def test_a_prefix_cannot_leave_its_bucket(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"origin\.prefix: must not have a segment"):
        load_config(environ={"RANGESERVER_ORIGIN__PREFIX": prefix}, flags=BUCKET)


def test_all_problems_are_told_at_once_and_each_names_its_key(tmp_path: Path) -> None:
    text = """
    wrokers = 4
    [server]
    hots = "0.0.0.0"
    port = 70000
    keep_alive_seconds = "soon"
    [origin]
    addressing_style = "paths"
    prefix = "/films"
    endpoint_url = "ftp://store"
    """
    found = problems(text, tmp_path, {"RANGESERVER_LOG__LEVEL": "loud"})
    assert found == [
        "server.port: must be less than or equal to 65535",
        "server.keep_alive_seconds: must be a valid number, unable to parse string as a number",
        "server.hots: unknown setting, did you mean server.host?",
        "origin.prefix: must not begin with a slash: keys do not",
        "origin.endpoint_url: must be a URL like https://s3.example.com",
        "origin.addressing_style: must be 'auto', 'path' or 'virtual'",
        "log.level: must be 'debug', 'info', 'warning' or 'error'",
        "wrokers: unknown setting",
        "origin.bucket: must name the bucket to serve",
    ]


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


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@store",
        "https://store/hunter2",
        "https://store?token=hunter2",
        "http://[hunter2",
        "https://store:hunter2",
        "hunter2",
    ],
)
def test_a_wrong_endpoint_is_refused_without_being_echoed(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"RANGESERVER_ORIGIN__ENDPOINT_URL": url}, flags=BUCKET)
    (problem,) = caught.value.problems
    assert problem.startswith("origin.endpoint_url: must")
    assert "hunter2" not in problem


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "100000"])
def test_a_deadline_is_a_finite_positive_time(value: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.write_idle_seconds"):
        load_config(environ={"RANGESERVER_SERVER__WRITE_IDLE_SECONDS": value}, flags=BUCKET)


def test_a_section_that_is_no_table_is_one_problem(tmp_path: Path) -> None:
    assert "server: must be a valid dictionary" in problems("server = 3", tmp_path)[0]


def test_a_section_that_is_no_table_is_not_replaced_by_a_flag(tmp_path: Path) -> None:
    found = problems("server = 3", tmp_path, server={"port": 1}, origin={"bucket": "films"})
    assert found == ["server: must be a valid dictionary or instance of ServerConfig"]


def test_a_configuration_cannot_be_changed() -> None:
    config = load_config(environ={}, flags=BUCKET)
    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1  # type: ignore[misc]
