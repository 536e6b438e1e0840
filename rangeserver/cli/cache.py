"""``rangeserver cache``: look into the cache directory and put it in order, also while servers
use it.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from rangeserver.cache.addresses import Addresses, mounted_cache_key
from rangeserver.cache.purging import Purged, purge_all, purge_object, purge_where
from rangeserver.cache.verification import Damaged, files_to_verify, remove, verify
from rangeserver.cli.cache_access import ELSEWHERE, Names, mounted_key, opened_directory
from rangeserver.cli.cache_contents import list_objects, stats
from rangeserver.cli.on_demand import OnDemand
from rangeserver.cli.options import CACHE_DIRECTORY, NAMES, config_from, config_options
from rangeserver.cli.words import printable, progress
from rangeserver.figures import count_text, size_text


@click.group(
    cls=OnDemand,
    commands_in={"warm": "rangeserver.cli.warm"},
    short_help="Look into the cache and put it in order.",
)
def cache() -> None:
    """Look into the cache and put it in order, also while servers use it.

    A KEY is the path of an object's URL, decoded and without its first slash: films/a b.mp4.
    """


@cache.command("verify", short_help="Read everything against its checksums.")
@config_options(*NAMES, CACHE_DIRECTORY)
@click.option("--remove", "removing", is_flag=True, help="Remove the objects that are damaged.")
def verify_all(*, removing: bool, **options: Any) -> None:
    """Read everything and compare it with its checksums; exit with 1 if something is damaged.

    --remove removes an object with a damaged block as a whole: servers would not notice less.
    """
    config = config_from(options, needs_bucket=False, needs_secrets=False)
    with opened_directory(config) as directory:
        names = Names(Addresses(config.mounted()))
        files = list(files_to_verify(directory))
        total = sum(count for _, count in files)
        damaged: list[Damaged] = []
        try:
            with progress(total, "verifying") as advance:
                for found, _ in files:
                    damage = verify(directory, found, on_bytes=advance)
                    if damage is not None:
                        damaged.append(damage)
        finally:
            for each in damaged:
                shown = directory.path_to(each.found.name)
                what = names.shown(each.cache_key) if each.cache_key else shown
                click.echo(f"{what}: {each.reason}")
        removed = sum(remove(directory, each) for each in damaged) if removing else 0
    click.echo(f"checked {count_text(len(files), 'object')}, {size_text(total)}: ", nl=False)
    if not damaged:
        click.echo("nothing is damaged")
    elif removed == len(damaged):
        click.echo(f"{len(damaged)} damaged, removed")
    elif removing:
        click.echo(f"{len(damaged)} damaged, {removed} removed; the others are gone, or not ours")
        sys.exit(1)
    else:
        click.echo(f"{len(damaged)} damaged, left as they are; --remove removes them")
        sys.exit(1)


@cache.command(short_help="Remove objects, below a prefix or all.")
@click.argument("keys", metavar="[KEY|PREFIX/]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Remove all objects of all buckets.")
@config_options(*NAMES, CACHE_DIRECTORY)
def purge(*, keys: tuple[str, ...], everything: bool, **options: Any) -> None:
    """Remove objects: each KEY, and whatever is below each PREFIX/.

    Objects that the configuration does not serve are named as `list` does: s3://bucket/key.

    Servers ask the origin for them at once; responses that run go on with what they began with.
    """
    if bool(keys) == everything:
        raise click.UsageError("Name a KEY or a PREFIX/, or everything with --all.")
    needs_bucket = not all(key.startswith(ELSEWHERE) for key in keys)
    config = config_from(options, needs_bucket=needs_bucket, needs_secrets=False)
    with opened_directory(config) as directory:
        if everything:
            _tell_purged("everything", purge_all(directory))
            return
        addresses = Addresses(config.mounted())
        names = Names(addresses)
        for key in keys:
            if key.endswith("/") or key.startswith(ELSEWHERE):
                purged = purge_where(directory, partial(names.selects, key))
            else:
                cache_key = mounted_cache_key(*mounted_key(addresses, config, key))
                purged = purge_object(directory, cache_key)
            _tell_purged(printable(key), purged)


def _tell_purged(what: str, purged: Purged) -> None:
    if not purged.objects:
        click.echo(f"{what}: nothing in the cache")
        return
    removed = f"{count_text(purged.objects, 'object')}, {size_text(purged.disk_bytes)}"
    click.echo(f"{what}: removed {removed}")


cache.add_command(stats)
cache.add_command(list_objects)
