"""The ``rangeserver`` command."""

from __future__ import annotations

import click

from rangeserver import __version__
from rangeserver.cli.cache import cache
from rangeserver.cli.check import check
from rangeserver.cli.config import config
from rangeserver.cli.demo import demo
from rangeserver.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rangeserver")
def main() -> None:
    """Serve the objects of an S3 bucket over HTTP, with ranges, whole and correct."""


main.add_command(serve)
main.add_command(check)
main.add_command(cache)
main.add_command(config)
main.add_command(demo)
