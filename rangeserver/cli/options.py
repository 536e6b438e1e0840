"""The options that commands share: each is a setting of the configuration, by the name that it
has in environment variables (``SERVER__PORT``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from rangeserver.config import Config, load_config
from rangeserver.errors import ConfigError
from rangeserver.origin.customer_key import load_customer_key

EX_CONFIG = 78
"""sysexits.h: the configuration is at fault. systemd can be told not to restart on it."""

_CONFIG_FILE = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file; `rangeserver config` prints all settings.",
)


def _setting(flag: str, text: str, setting: str, **more: Any) -> Callable[..., Any]:
    """An option whose value is that of a setting."""
    return click.option(flag, setting.replace(".", "__"), help=f"{text} [{setting}]", **more)


_PATH = click.Path()  # for shell completion: whether it can be used is said with other problems

NAMES = (
    _setting("--bucket", "Name of the bucket.", "origin.bucket"),
    _setting("--prefix", "Put before the key of each request.", "origin.prefix"),
    _setting("--endpoint-url", "Store other than AWS, by its URL.", "origin.endpoint_url"),
)
"""What the objects of a cache are named by."""

ORIGIN = (*NAMES, _setting("--region", "AWS region of the bucket.", "origin.region"))
"""Where objects come from."""

LISTENERS = (
    _setting("--host", "Address to listen on.", "server.host"),
    _setting("--port", "Port to listen on; 0: any free one.", "server.port", type=int),
    _setting(
        "--tls-certificate",
        "PEM file: certificate for HTTPS.",
        "server.tls_certificate",
        type=_PATH,
    ),
    _setting("--tls-key", "PEM file: its private key.", "server.tls_key", type=_PATH),
    _setting(
        "--admin-port",
        "Port for health, metrics and status.",
        "admin.port",
        type=int,
    ),
)
"""Where the server listens."""

CACHE_DIRECTORY = _setting("--cache-dir", "Directory of the cache.", "cache.directory", type=_PATH)

NO_CACHE = click.option(
    "--no-cache", is_flag=True, default=False, help="Read from the origin only. [cache.enabled]"
)

LOG_FORMAT = _setting(
    "--log-format",
    "Form of the log lines.",
    "log.format",
    type=click.Choice(["json", "text"]),
)


def config_options(
    *options: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--config`` and those options that concern a command."""

    def added(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed((_CONFIG_FILE, *options)):
            command = option(command)
        return command

    return added


def config_from(
    options: dict[str, Any], *, needs_bucket: bool = True, needs_secrets: bool = True
) -> Config:
    """The configuration that file, environment and these options make; exits when unusable.

    It is usable without a bucket where none is needed, and without the files that secrets are in
    where the origin is not asked.
    """
    flags: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        section, is_setting, key = name.partition("__")
        if is_setting:
            flags.setdefault(section, {})[key] = value
    if options.get("no_cache"):
        flags.setdefault("cache", {})["enabled"] = False
    try:
        config = load_config(options["config_file"], flags=flags, needs_bucket=needs_bucket)
        if needs_secrets:
            _try_customer_keys(config)
    except ConfigError as error:
        exit_with_problems(error)
    return config


def _try_customer_keys(config: Config) -> None:
    """Read every key once, so that one which cannot be used is told by the name of its setting."""
    problems: list[str] = []
    for setting, path in config.customer_key_files().items():
        try:
            load_customer_key(path, setting=setting)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def exit_with_problems(error: ConfigError) -> NoReturn:
    """Print every problem on a line of its own and exit."""
    for problem in error.problems:
        click.echo(f"rangeserver: config: {problem}", err=True)
    sys.exit(EX_CONFIG)
