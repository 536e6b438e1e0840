"""The ``rangeserver`` command."""

from __future__ import annotations

import click

from rangeserver import __version__
from rangeserver.cli.on_demand import OnDemand

_COMPLETION = """\b
Completion of commands, options and files, for this shell or its start-up file:
  bash  eval "$(_RANGESERVER_COMPLETE=bash_source rangeserver)"
  zsh   eval "$(_RANGESERVER_COMPLETE=zsh_source rangeserver)"
  fish  _RANGESERVER_COMPLETE=fish_source rangeserver | source"""

_COMMANDS = ("cache", "check", "config", "demo", "serve")


@click.group(
    cls=OnDemand,
    commands_in={name: f"rangeserver.cli.{name}" for name in _COMMANDS},
    epilog=_COMPLETION,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="rangeserver")
def main() -> None:
    """Serve the objects of an S3 bucket over HTTP, with ranges, whole and correct."""
