"""``rangeserver config``: every setting, explained, at its default."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

import click
from pydantic import BaseModel, ByteSize

from rangeserver.config import Config

_HEAD = """\
Every setting of rangeserver, at its default. Only origin.bucket has to be set.
An environment variable such as RANGESERVER_SERVER__PORT, or a command-line flag, wins over
this file. Sizes may be written like "8MiB". `rangeserver check --config FILE` tries it out."""


@click.command()
def config() -> None:
    """Print a commented configuration file with every setting at its default."""
    click.echo(render_defaults(), nl=False)


def render_defaults() -> str:
    """The text of a configuration file that changes nothing."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from (f"# {line}" for line in _HEAD.splitlines())
    for section, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        yield ""
        yield f"[{section}]  # {model.__doc__}"
        for name, setting in model.model_fields.items():
            yield ""
            yield from textwrap.wrap(
                setting.description or "", 96, initial_indent="# ", subsequent_indent="# "
            )
            yield f"{name} = {_toml(setting.default)}"


def _toml(value: object) -> str:
    if isinstance(value, ByteSize):
        kib, rest = divmod(int(value), 1024)
        return f'"{kib}KiB"' if kib and not rest else str(int(value))
    if isinstance(value, tuple):
        items = "".join(f"    {json.dumps(item)},\n" for item in value)
        return f"[\n{items}]"
    return json.dumps(value)  # for these types JSON is TOML
