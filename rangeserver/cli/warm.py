"""``rangeserver cache warm``: have an object in the cache before anyone asks for it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from rangeserver.app import cache_alone
from rangeserver.cache.addresses import Addresses
from rangeserver.cache.errors import NotCached
from rangeserver.cache.warming import Plan, fetch, plan_warming
from rangeserver.cli.cache_access import INTERRUPTED, fail, mounted_key, one_line_errors
from rangeserver.cli.options import (
    CACHE_DIRECTORY,
    ORIGIN,
    config_from,
    config_options,
    exit_with_problems,
)
from rangeserver.cli.words import printable, progress
from rangeserver.config import Config, Mount
from rangeserver.errors import ConfigError, OriginError, RequestError
from rangeserver.figures import size_text
from rangeserver.process.loop import new_event_loop
from rangeserver.protocol.object_keys import check_length
from rangeserver.protocol.ranges import REVERSED, WHOLE, AskedRange, parse_members
from rangeserver.protocol.representation import ObjectKey

_SUFFIX_RANGE = re.compile(r"-[0-9]+")


def _range(_: click.Context, param: click.Parameter, text: str) -> AskedRange:
    """One range, as in a Range field, with its unit or without."""
    members = parse_members(text if "=" in text else f"bytes={text}", max_ranges=1)
    if members is None or REVERSED in members:
        hint = "write one like 0-1048575, 1048576- or -500 (the last 500 bytes)"
        raise click.BadParameter(hint, param=param)
    return members[0]


class _WithSuffixRange(click.Command):
    """A command that takes ``-500`` for a range and not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        plain = args.index("--") if "--" in args else len(args)
        ranges = [f"bytes={arg}" if _SUFFIX_RANGE.fullmatch(arg) else arg for arg in args[:plain]]
        return super().parse_args(ctx, ranges + args[plain:])


@click.command(cls=_WithSuffixRange, short_help="Fetch an object, or a range of it, now.")
@click.argument("key")
@click.argument("wanted", metavar="[RANGE]", default=WHOLE.range_header(), callback=_range)
@config_options(*ORIGIN, CACHE_DIRECTORY)
def warm(key: str, wanted: AskedRange, **options: Any) -> None:
    """Have KEY in the cache before anyone asks for it, all of it or a RANGE, in whole blocks.

    RANGE is like 0-1048575, or -500 for the last 500 bytes. The origin is asked whether what is
    there is current. What has come when the command is interrupted stays.
    """
    config = _strict(config_from(options))
    mount, rest = mounted_key(Addresses(config.mounted()), config, key)
    shown = printable(key)
    with one_line_errors(), _warnings() as warnings:
        try:
            check_length(rest, prefix=mount.origin.prefix)
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                plan = runner.run(_warm(config, mount, ObjectKey(rest), wanted))
        except ConfigError as error:
            exit_with_problems(error)
        except (OriginError, RequestError) as error:
            detail = f" ({error.detail})" if error.detail else ""
            fail(f"{shown}: {error.message}{detail}")
        except NotCached as error:
            reason = f" ({warnings[-1]})" if warnings else ""
            fail(f"{shown}: {error}{reason}")
        except KeyboardInterrupt:
            fail(f"{shown}: interrupted; what has come is kept", INTERRUPTED)
        for warning in warnings:
            click.echo(f"rangeserver: {warning}", err=True)
    fetched = plan.span.length - plan.there
    click.echo(f"{shown}: {size_text(fetched)} from the origin, {size_text(plan.there)} were there")


def _strict(config: Config) -> Config:
    """With a cache that must be usable, and an origin that must be heard."""
    strict = {"required": True, "stale_if_error_seconds": 0.0}
    return config.model_copy(update={"cache": config.cache.model_copy(update=strict)})


async def _warm(config: Config, mount: Mount, key: ObjectKey, wanted: AskedRange) -> Plan:
    async with cache_alone(config, mount) as origin:
        plan = await plan_warming(origin, key, wanted)
        with progress(plan.span.length, "warming") as advance:
            await fetch(origin, plan, on_bytes=advance)
    return plan


@contextmanager
def _warnings() -> Iterator[deque[str]]:
    """The last things that the parts of the server warned of, which have no log here."""
    kept: deque[str] = deque(maxlen=10)

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    handler = Keeping(logging.WARNING)
    logger = logging.getLogger("rangeserver")
    logger.addHandler(handler)
    try:
        yield kept
    finally:
        logger.removeHandler(handler)
