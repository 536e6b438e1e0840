"""The configuration: one typed, frozen tree, checked whole before anything starts.

Later sources win: a TOML file, then environment variables named
``RANGESERVER_<SECTION>__<KEY>``, then command-line flags. The models below are the only list of
settings; ``config.toml`` shows each at its default and a test compares the two.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from rangeserver.errors import ConfigError

ENV_PREFIX = "RANGESERVER_"

_BUCKET = re.compile(r"[a-zA-Z0-9.\-_]{1,255}|arn:[!-~]{1,512}")  # as botocore takes them

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]


def _plain_prefix(prefix: str) -> str:
    if prefix.startswith("/"):
        msg = "must not begin with a slash: keys do not"
        raise ValueError(msg)
    if {".", ".."} & set(prefix.split("/")):
        msg = "must not have a segment . or ..: a gateway may resolve it into another bucket"
        raise ValueError(msg)
    return prefix


def _plain_endpoint(url: str) -> str:
    """Refuse what would send requests, or secrets, somewhere unexpected. Never echo the value."""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        msg = "must be a URL like https://s3.example.com"
        raise ValueError(msg) from None
    if parts.scheme not in {"http", "https"} or not host:
        msg = "must be a URL like https://s3.example.com"
        raise ValueError(msg)
    if parts.username is not None or parts.password is not None:
        msg = "must not hold a user name or password: credentials come from AWS's own chain"
        raise ValueError(msg)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        msg = "must end after the host and port: name the bucket in origin.bucket"
        raise ValueError(msg)
    return url


def _bucket_name(name: str) -> str:
    if name and _BUCKET.fullmatch(name) is None:
        msg = "must be a bucket's name: letters, digits, dots, hyphens, underscores, up to 255"
        raise ValueError(msg)
    return name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class ServerConfig(_Section):
    """Where clients connect, and what one client may take."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(8080, description="Port to listen on; 0 lets the system choose one.")
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        4096, description="Client connections at once; one more is answered 503 and closed."
    )
    max_connections_per_client: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0,
        description="The same for one client address; 0 is no limit "
        "(behind a proxy all clients share its address).",
    )
    keep_alive_seconds: Seconds = Field(
        30.0, description="For a client to send a whole request header, first or next."
    )
    write_idle_seconds: Seconds = Field(
        120.0,
        description="A client that takes no byte for this long is cut off. "
        "A paused player takes none for minutes.",
    )
    min_bytes_per_second: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(1024),
        description="A client that takes less than this on average, counting the time it kept "
        "us waiting, is cut off; 0 is no limit.",
    )
    min_rate_grace_seconds: Seconds = Field(
        30.0, description="Waiting time before min_bytes_per_second is judged."
    )
    drain_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        20.0, description="On SIGTERM: time for running responses to finish before the cut."
    )
    max_ranges: Annotated[int, Field(ge=1, le=1000)] = Field(
        16, description="Ranges in one request; with more of them the whole object is sent."
    )


class OriginConfig(_Section):
    """The bucket, and what a request to it may cost."""

    bucket: Annotated[str, AfterValidator(_bucket_name)] = Field(
        "", description="Name of the bucket, or the ARN of an access point. Required."
    )
    prefix: Annotated[str, AfterValidator(_plain_prefix)] = Field(
        "", description='Put before every key: "films/" serves films/a.mp4 as /a.mp4.'
    )
    region: str = Field("", description="AWS region; empty: from AWS's own configuration.")
    endpoint_url: Annotated[str, AfterValidator(_plain_endpoint)] = Field(
        "",
        description="An S3-compatible server, like https://s3.example.com; empty: AWS.",
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto", description='"path" for most S3-compatible servers, "virtual" for AWS.'
    )
    profile: str = Field("", description="Profile in AWS's configuration files.")
    anonymous: bool = Field(False, description="Send unsigned requests, for a public bucket.")
    forbidden_as_not_found: bool = Field(
        False,
        description="Answer 404 where S3 says AccessDenied; S3 says so for missing keys when "
        "it may not list the bucket.",
    )
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = Field(
        256, description="Connections to the origin at once; one per body being streamed."
    )
    pool_wait_seconds: Seconds = Field(5.0, description="For a free origin connection; then 503.")
    connect_seconds: Seconds = Field(3.0, description="For one connection attempt.")
    response_seconds: Seconds = Field(
        15.0,
        description="For the header of one answer of the origin, retries included; then 504.",
    )
    idle_seconds: Seconds = Field(
        10.0,
        description="The origin's answer, header or body, is given up when no byte comes for this "
        "long.",
    )
    min_bytes_per_second: Annotated[ByteSize, Field(ge=0)] = Field(
        ByteSize(8 * 1024),
        description="... or when less than this comes, on average over the window below, "
        "while we wait for the origin; 0 is no limit.",
    )
    min_rate_window_seconds: Seconds = Field(
        10.0, description="Waiting time over which min_bytes_per_second is judged."
    )
    max_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        3, description="Attempts at getting one answer from the origin."
    )
    max_resumes: Annotated[int, Field(ge=0, le=100)] = Field(
        3,
        description="Attempts in a row at continuing a body that broke, at its next byte and of "
        "the same version; 0 aborts the response at once.",
    )


class AdminConfig(_Section):
    """Health, readiness, metrics and status, apart from the public port."""

    enabled: bool = Field(True, description="Whether to listen for them at all.")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Whoever reaches it sees keys and client addresses.",
    )
    port: Port = Field(9090, description="Port to listen on; 0 lets the system choose one.")


class AccessConfig(_Section):
    """What browsers may do with what they get."""

    inline_types: tuple[Annotated[str, StringConstraints(to_lower=True)], ...] = Field(
        (
            "video/*",
            "audio/*",
            "image/*",
            "text/plain",
            "text/vtt",
            "text/x-ssa",
            "application/json",
            "application/dash+xml",
            "application/ttml+xml",
            "application/vnd.apple.mpegurl",
            "application/x-mpegurl",
            "application/x-subrip",
        ),
        description="Media types shown in place. Others can carry script (HTML, SVG, PDF) and "
        "are sent as downloads in a sandbox.",
    )


class LogConfig(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe messages to write."
    )
    format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text.")
    access: bool = Field(True, description="One line per response.")


class Config(_Section):
    """The whole configuration."""

    server: ServerConfig = ServerConfig()
    admin: AdminConfig = AdminConfig()
    origin: OriginConfig = OriginConfig()
    access: AccessConfig = AccessConfig()
    log: LogConfig = LogConfig()


def load_config(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Read and check the configuration.

    ``flags`` holds settings by section and key; ``None`` values count as not given. Raises
    :class:`ConfigError` with every problem found, each one line that names its key.
    """
    problems: list[str] = []
    tree = _read_file(path, problems) if path is not None else {}
    if problems:  # nothing said of a file that cannot be read would be true
        raise ConfigError(problems)
    _merge(tree, _read_environment(environ, problems))
    given = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in (flags or {}).items()
    }
    _merge(tree, given)
    config: Config | None = None
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        # Values stay out of the messages: what was mistyped may be a secret.
        problems += [_problem(item) for item in error.errors(include_input=False)]
    origin = tree.get("origin")
    if not (isinstance(origin, dict) and origin.get("bucket")):
        problems.append("origin.bucket: must name the bucket to serve")
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _read_file(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: is not valid TOML: {error}")
    return {}


def _read_environment(environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in environ.items():
        if not name.startswith(ENV_PREFIX):
            continue
        section, separator, key = name[len(ENV_PREFIX) :].lower().partition("__")
        if not separator:
            problems.append(f"{name}: unknown setting: names look like {ENV_PREFIX}ORIGIN__BUCKET")
            continue
        tree.setdefault(section, {})[key] = _from_text(section, key, value)
    return tree


def _from_text(section: str, key: str, value: str) -> str | list[str]:
    """An environment value: a list is written with commas; the model converts the rest."""
    field = Config.model_fields.get(section)
    model = field.annotation if field is not None else None
    if isinstance(model, type) and issubclass(model, BaseModel):
        target = model.model_fields.get(key)
        if target is not None and str(target.annotation).startswith("tuple"):
            return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _merge(tree: dict[str, Any], over: Mapping[str, Any]) -> None:
    for section, values in over.items():
        if isinstance(values, Mapping) and isinstance(tree.get(section), dict):
            tree[section] |= values
        elif values and section not in tree:
            tree[section] = values


def _problem(item: Any) -> str:
    """One line for one of pydantic's findings."""
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        # A section is likened to sections, a setting to settings.
        known = [name for name in _all_names() if name.count(".") == path.count(".")]
        hint = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
        return f"{path}: unknown setting" + (f", did you mean {hint[0]}?" if hint else "")
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be")
    return f"{path}: {message}" if path else message


def _all_names() -> list[str]:
    names: list[str] = []
    for section, field in Config.model_fields.items():
        names.append(section)
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        names += [f"{section}.{key}" for key in model.model_fields]
    return names
