"""The options that commands share: each is a setting of the configuration."""

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

_OPTIONS = (
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        help="TOML file; see config.toml for every setting.",
    ),
    click.option("--bucket", help="origin.bucket"),
    click.option("--prefix", help="origin.prefix"),
    click.option("--region", help="origin.region"),
    click.option("--endpoint-url", help="origin.endpoint_url"),
    click.option("--host", help="server.host"),
    click.option("--port", type=int, help="server.port"),
    click.option("--tls-certificate", help="server.tls_certificate"),
    click.option("--tls-key", help="server.tls_key"),
    click.option("--admin-port", type=int, help="admin.port"),
    click.option("--cache-dir", help="cache.directory"),
    click.option("--no-cache", is_flag=True, default=False, help="cache.enabled = false"),
    click.option("--log-format", type=click.Choice(["json", "text"]), help="log.format"),
)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def config_from(
    options: dict[str, Any], *, needs_bucket: bool = True, needs_secrets: bool = True
) -> Config:
    """The configuration that file, environment and these options make; exits when unusable.

    It is usable without a bucket where none is needed, and without the files that secrets are in
    where the origin is not asked.
    """
    flags = {
        "origin": {key: options[key] for key in ("bucket", "prefix", "region", "endpoint_url")},
        "server": {key: options[key] for key in ("host", "port", "tls_certificate", "tls_key")},
        "admin": {"port": options["admin_port"]},
        "cache": {
            "directory": options["cache_dir"],
            "enabled": False if options["no_cache"] else None,
        },
        "log": {"format": options["log_format"]},
    }
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
