"""From a file, the environment and flags to one configuration."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rangeserver.config.problems import contradictions, problems_of
from rangeserver.config.tree import Config, table_model
from rangeserver.errors import ConfigError

ENV_PREFIX = "RANGESERVER_"


def load_config(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    needs_bucket: bool = True,
) -> Config:
    """Read and check the configuration, which must name a bucket if one is needed.

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
        problems += problems_of(error)
    else:
        problems += contradictions(config)
    origin = tree.get("origin")
    named = (isinstance(origin, dict) and origin.get("bucket")) or tree.get("mounts")
    if needs_bucket and not named:
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
        if section == "mounts":
            problems.append(f"{name}: mounts are read from a file only: write [[mounts]] there")
        elif not separator:
            problems.append(f"{name}: unknown setting: names look like {ENV_PREFIX}ORIGIN__BUCKET")
        else:
            tree.setdefault(section, {})[key] = _from_text(section, key, value)
    return tree


def _from_text(section: str, key: str, value: str) -> str | list[str]:
    """An environment value: a list is written with commas; the model converts the rest."""
    field = Config.model_fields.get(section)
    model = table_model(field) if field is not None else None
    target = model.model_fields.get(key) if model is not None else None
    if target is not None and str(target.annotation).startswith("tuple"):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _merge(tree: dict[str, Any], over: Mapping[str, Any]) -> None:
    for section, values in over.items():
        if isinstance(values, Mapping) and isinstance(tree.get(section), dict):
            tree[section] |= values
        elif values and section not in tree:
            tree[section] = values
