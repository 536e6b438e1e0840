"""Configurations as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rangeserver.config import Config, load_config
from rangeserver.errors import ConfigError

BUCKET = {"origin": {"bucket": "films"}}


def loaded(
    text: str, tmp_path: Path, environ: dict[str, str] | None = None, **flags: dict[str, object]
) -> Config:
    """What a file with this text makes."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_config(path, environ=environ or {}, flags=flags)


def problems(
    text: str, tmp_path: Path, environ: dict[str, str] | None = None, **flags: dict[str, object]
) -> list[str]:
    """What is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        loaded(text, tmp_path, environ, **flags)
    return caught.value.problems
