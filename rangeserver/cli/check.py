"""``rangeserver check``: tries what the server will need and says what to do."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from rangeserver.cache.directory_check import check_directory
from rangeserver.cache.limits import Limits
from rangeserver.cache.location import cache_directory
from rangeserver.cli.options import (
    CACHE_DIRECTORY,
    LISTENERS,
    NO_CACHE,
    ORIGIN,
    config_from,
    config_options,
)
from rangeserver.config import AdminConfig, CacheConfig, Config, Mount, ServerConfig
from rangeserver.errors import ConfigError
from rangeserver.figures import size_text
from rangeserver.origin.probe import Finding, probe
from rangeserver.process.limits import allowed_open_files, open_files
from rangeserver.process.server import addresses, open_sockets
from rangeserver.process.tls import open_tls
from rangeserver.protocol.mounts import MountTable


@click.command(short_help="Try the origin, the ports and the limits.")
@config_options(*ORIGIN, *LISTENERS, CACHE_DIRECTORY, NO_CACHE)
@click.option(
    "--key",
    help="Object to ask for, like films/a.mp4; else a missing one.",
)
def check(key: str | None, **options: Any) -> None:
    """Try the origin, the cache, the ports and the limits; print what was found and what to do."""
    config = config_from(options)
    # What the parts of the server would log is among what is found.
    logging.getLogger("rangeserver").addHandler(logging.NullHandler())
    healthy = True
    for finding in _findings(config, key):
        healthy = healthy and finding.ok
        click.echo(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.subject}: {finding.found}")
        if finding.advice:
            click.echo(f"         -> {finding.advice}")
    sys.exit(0 if healthy else 1)


def _findings(config: Config, key: str | None) -> Iterator[Finding]:
    yield Finding("config", "complete and valid")
    yield from _origins(config, key)
    if config.cache.enabled:
        yield _cache(config.cache)
    yield from _tls(config.server)
    yield from _ports(config)
    yield _limits(config)


def _origins(config: Config, key: str | None) -> Iterator[Finding]:
    """Probe every mount, that of ``key`` with it."""
    mounts = config.mounted()
    below: tuple[Mount, str] | None = None
    if key is not None:
        below = MountTable((mount.path, mount) for mount in mounts).find(key.removeprefix("/"))
        if below is None or not below[1]:
            paths = ", ".join(mount.path for mount in reversed(mounts))
            advice = f"name an object below one of {paths}"
            yield Finding("key", f"{key!r} names no object of a mount", advice, ok=False)
    for mount in reversed(mounts):
        wanted = below[1] or None if below is not None and below[0] is mount else None
        try:
            finding = asyncio.run(probe(mount.origin, wanted))
        except ConfigError as error:
            advice = "check what AWS's own files and variables say, and origin.profile"
            if error.problems[0].startswith("origin.region"):
                advice = "set origin.region"
            finding = Finding("origin", "; ".join(error.problems), advice, ok=False)
        yield _named(finding, mount)


def _named(finding: Finding, mount: Mount) -> Finding:
    """The finding by the names that the mount and its own settings have."""
    if mount.path == "/":
        return finding
    advice = finding.advice
    for key in ("bucket", "prefix"):  # the rest may be set in [origin] as well
        advice = advice.replace(f"origin.{key}", f"{mount.section}.{key}")
    return replace(finding, subject=f"{finding.subject} {mount.path}", advice=advice)


def _cache(settings: CacheConfig) -> Finding:
    optional = not settings.required
    where = "the default directory"
    try:
        path = cache_directory(settings.directory)
        where = str(path)
        tried = check_directory(path, Limits(int(settings.max_bytes), int(settings.min_free_bytes)))
    except OSError as error:
        return Finding(
            "cache",
            f"{where} cannot be used: {error.strerror or error}",
            "name another in cache.directory, empty or not there yet, that this user can write to",
            ok=optional,
        )
    wanted, least = int(settings.max_bytes), int(settings.min_free_bytes)
    if tried.room_bytes < settings.block_bytes:
        return Finding(
            "cache",
            f"nothing can be cached in {path}: of {size_text(tried.size_bytes)} on its disk, "
            f"{size_text(least)} are to stay free, and fewer are",
            "name a directory on a larger disk in cache.directory, or lower cache.min_free_bytes",
            ok=optional,
        )
    room = f"room for {size_text(min(tried.room_bytes, wanted))}"
    if tried.room_bytes < wanted:
        room += f", which is less than cache.max_bytes ({size_text(wanted)})"
    return Finding("cache", f"{path} can be used, with {room}", tried.exposure or "")


def _tls(server: ServerConfig) -> Iterator[Finding]:
    try:
        tls = open_tls(server)
    except ConfigError as error:
        for problem in error.problems:
            setting = problem.partition(":")[0]
            yield Finding("tls", problem, f"mend the file, or name another in {setting}", ok=False)
    else:
        if tls is not None:
            yield Finding("tls", "certificate and key can be used")


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
                tls = listener is config.server and bool(config.server.tls_certificate)
                yield Finding(subject, f"{', '.join(addresses(sockets, tls=tls))} is free")


def _limits(config: Config) -> Finding:
    wanted = open_files(config)
    allowed = allowed_open_files(wanted.total)
    if wanted.total <= allowed:
        return Finding("limits", f"{wanted} may be needed and are allowed")
    fits = wanted.within(allowed)
    return Finding(
        "limits",
        f"{wanted} may be needed, and {allowed} are allowed: {fits.clients} clients at once fit",
        "raise LimitNOFILE (systemd) or ulimit -Hn, or lower server.max_connections",
        ok=False,
    )
