"""``rangeserver config``: every setting, explained, at its default."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

import click
from pydantic import ByteSize

from rangeserver.config import Config, MountConfig
from rangeserver.config.tree import table_model

_HEAD = """\
Every setting of rangeserver, at its default. Only origin.bucket, or a mount, has to be set.
An environment variable such as RANGESERVER_SERVER__PORT, or a command-line flag, wins over
this file. Sizes may be written like "8MiB". `rangeserver check --config FILE` tries it out."""

_MOUNT_HEAD = "A bucket of its own below a path. Any number of them; the longest path wins."
_MOUNT = {"path": "/trailers/", "bucket": "my-trailers", "prefix": "public/"}
_UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
_MOUNT_REST = "Any other setting of [origin], for this mount alone; those left out are as there."


@click.command(short_help="Print every setting at its default, explained.")
def config() -> None:
    """Print a commented configuration file with every setting at its default."""
    click.echo(render_defaults(), nl=False)


def render_defaults() -> str:
    """The text of a configuration file that changes nothing."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from (f"# {line}" for line in _HEAD.splitlines())
    for section, field in Config.model_fields.items():
        model = table_model(field)
        assert model is not None
        if model is MountConfig:
            continue
        yield ""
        yield f"[{section}]  # {model.__doc__}"
        for name, setting in model.model_fields.items():
            yield from _setting(setting.description, name, setting.default)
    yield ""
    yield from (f"# {line}".rstrip() for line in _mount_lines())


def _mount_lines() -> Iterator[str]:
    """A mount as an example: there are none by default."""
    yield f"[[mounts]]  # {_MOUNT_HEAD}"
    for name, value in _MOUNT.items():
        yield from _setting(MountConfig.model_fields[name].description, name, value)
    yield from _setting(_MOUNT_REST, "region", "eu-west-1")
    yield ""
    yield "[mounts.access]  # Any setting of [access], for this mount alone."
    yield ""
    yield 'inline_types = ["video/*"]'


def _setting(text: str | None, name: str, value: object) -> Iterator[str]:
    yield ""
    yield from textwrap.wrap(text or "", 96, initial_indent="# ", subsequent_indent="# ")
    yield f"{name} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, ByteSize):
        for unit, size in _UNITS.items():
            if value and not value % size:
                return f'"{value // size}{unit}"'
        return str(int(value))
    if isinstance(value, tuple):
        items = "".join(f"    {json.dumps(item)},\n" for item in value)
        return f"[\n{items}]" if items else "[]"
    return json.dumps(value)  # for these types JSON is TOML
