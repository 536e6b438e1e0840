"""``rangeserver check``: tries what the server will need and says what to do."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import click

from rangeserver.cli.options import config_from, config_options
from rangeserver.config import AdminConfig, Config, ServerConfig
from rangeserver.errors import ConfigError
from rangeserver.origin.probe import Finding, probe
from rangeserver.process.limits import descriptors_needed, raise_descriptor_limit
from rangeserver.process.server import addresses, open_sockets


@click.command()
@config_options
@click.option("--key", help="An object that exists; without it a missing one is asked for.")
def check(key: str | None, **options: Any) -> None:
    """Try the origin, the ports and the limits; print what was found and what to do."""
    config = config_from(options)
    healthy = True
    for finding in _findings(config, key):
        healthy = healthy and finding.ok
        click.echo(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.subject}: {finding.found}")
        if finding.advice:
            click.echo(f"         -> {finding.advice}")
    sys.exit(0 if healthy else 1)


def _findings(config: Config, key: str | None) -> Iterator[Finding]:
    yield Finding("config", "complete and valid")
    try:
        yield asyncio.run(probe(config.origin, key))
    except ConfigError as error:
        advice = "check what AWS's own files and variables say, and origin.profile"
        yield Finding("origin", "; ".join(error.problems), advice, ok=False)
    yield from _ports(config)
    yield _limits(config)


def _ports(config: Config) -> Iterator[Finding]:
    """Try each port while those before it are held: one port for both is none for the second."""
    wanted: list[tuple[str, str, ServerConfig | AdminConfig]] = [("port", "server", config.server)]
    if config.admin.enabled:
        wanted.append(("admin port", "admin", config.admin))
    with ExitStack() as held:
        for subject, section, listener in wanted:
            try:
                sockets = open_sockets(listener)
            except OSError as error:
                yield Finding(
                    subject,
                    f"cannot listen on {listener.host} port {listener.port}: {error.strerror}",
                    f"stop what listens there (a running rangeserver?) or set {section}.port"
                    if error.errno == errno.EADDRINUSE
                    else f"set {section}.host to an address of this machine, and {section}.port "
                    "above 1023",
                    ok=False,
                )
            else:
                for sock in sockets:
                    held.enter_context(sock)
                yield Finding(subject, f"{', '.join(addresses(sockets))} is free")


def _limits(config: Config) -> Finding:
    connections = config.server.max_connections + config.origin.max_connections
    needed = descriptors_needed(connections)
    if raise_descriptor_limit(connections):
        return Finding("limits", f"{needed} open files may be needed and are allowed")
    return Finding(
        "limits",
        f"{needed} open files may be needed and are not allowed",
        "raise LimitNOFILE (systemd) or ulimit -Hn, or lower server.max_connections",
        ok=False,
    )
