"""``rangeserver serve``: the server itself."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import click

from rangeserver.app import create_app
from rangeserver.cli.options import config_from, config_options, exit_with_problems
from rangeserver.errors import ConfigError
from rangeserver.logs import logging_to
from rangeserver.process.limits import descriptors_needed, raise_descriptor_limit
from rangeserver.process.loop import new_event_loop
from rangeserver.process.server import addresses, open_sockets, serve_until_signalled

log = logging.getLogger("rangeserver")


@click.command()
@config_options
def serve(**options: Any) -> None:
    """Serve a bucket until SIGTERM or Ctrl-C."""
    config = config_from(options)
    server = config.server
    try:
        sockets = open_sockets(server)
    except OSError as error:
        where = f"{server.host} port {server.port}"
        click.echo(f"rangeserver: cannot listen on {where}: {error.strerror}", err=True)
        sys.exit(1)
    connections = server.max_connections + config.origin.max_connections
    enough = raise_descriptor_limit(connections)

    def announce() -> None:
        if not enough:
            needed = descriptors_needed(connections)
            log.warning("the connection limits need %d open files, fewer are allowed", needed)
        for url in addresses(sockets):
            log.info("serving bucket %s at %s", config.origin.bucket, url)

    with logging_to(config.log), asyncio.Runner(loop_factory=new_event_loop) as runner:
        app = create_app(config)
        try:
            runner.run(serve_until_signalled(app, server, sockets, on_ready=announce))
        except ConfigError as error:
            exit_with_problems(error)
