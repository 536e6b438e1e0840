"""``rangeserver serve``: the server itself."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

import click

from rangeserver.app import METRICS, create_admin_app, create_app
from rangeserver.cli.options import (
    CACHE_DIRECTORY,
    LISTENERS,
    LOG_FORMAT,
    NO_CACHE,
    ORIGIN,
    config_from,
    config_options,
    exit_with_problems,
)
from rangeserver.config import AdminConfig, ServerConfig
from rangeserver.errors import ConfigError
from rangeserver.logs import logging_to
from rangeserver.process.collector import spare_the_loop
from rangeserver.process.limits import allowed_open_files, open_files
from rangeserver.process.loop import new_event_loop
from rangeserver.process.monitoring import Monitoring
from rangeserver.process.server import addresses, open_sockets, serve_until_signalled
from rangeserver.process.tls import Tls, open_tls, renewed_on_hangup

log = logging.getLogger("rangeserver")


@click.command()
@config_options(*ORIGIN, *LISTENERS, CACHE_DIRECTORY, NO_CACHE, LOG_FORMAT)
def serve(**options: Any) -> None:
    """Serve a bucket until SIGTERM or Ctrl-C."""
    config = config_from(options)
    tls = _tls(config.server)
    sockets = _listening(config.server)
    admin_sockets = _listening(config.admin) if config.admin.enabled else []
    wanted = open_files(config)
    files = wanted.within(allowed_open_files(wanted.total))
    # One more than fits has to be told so, for which there has to be room.
    server = config.server.model_copy(update={"max_connections": files.clients})

    def announce() -> None:
        spare_the_loop()
        if files != wanted:
            log.warning("%d clients at once, and not more: they need %s", files.clients, files)
        for url in addresses(admin_sockets):
            log.info("health, metrics and status at %s", url)
        for url in addresses(sockets, tls=tls is not None):
            for mount in reversed(config.mounted()):
                where = url if mount.path == "/" else url + mount.path
                log.info("serving bucket %s at %s", mount.origin.bucket, where)

    with (
        logging_to(config.log) as log_lines,
        asyncio.Runner(loop_factory=new_event_loop) as runner,
    ):
        app = create_app(config, cache_files=files.cache)
        metrics = app[METRICS]
        metrics.dropped_lines = lambda: log_lines.dropped
        monitoring = None
        if admin_sockets:
            monitoring = Monitoring(create_admin_app(app), admin_sockets, metrics.loop_lagged)
        if tls is not None:
            tls.handshake_failed = metrics.handshake_failed

        async def until_signalled() -> None:
            async with renewed_on_hangup(tls):
                await serve_until_signalled(
                    app, server, sockets, on_ready=announce, monitoring=monitoring, tls=tls
                )

        try:
            runner.run(until_signalled())
        except ConfigError as error:
            exit_with_problems(error)


def _tls(server: ServerConfig) -> Tls | None:
    try:
        return open_tls(server)
    except ConfigError as error:
        exit_with_problems(error)


def _listening(listener: ServerConfig | AdminConfig) -> list[socket.socket]:
    try:
        return open_sockets(listener)
    except OSError as error:
        where = f"{listener.host} port {listener.port}"
        click.echo(f"rangeserver: cannot listen on {where}: {error.strerror}", err=True)
        sys.exit(1)
