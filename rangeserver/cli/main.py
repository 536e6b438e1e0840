"""The ``rangeserver`` command."""

from __future__ import annotations

import click

from rangeserver import __version__
from rangeserver.cli.on_demand import OnDemand

_COMMANDS = ("cache", "check", "config", "demo", "serve")


@click.group(
    cls=OnDemand,
    commands_in={name: f"rangeserver.cli.{name}" for name in _COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="rangeserver")
def main() -> None:
    """Serve the objects of an S3 bucket over HTTP, with ranges, whole and correct."""
