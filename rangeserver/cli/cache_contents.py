"""``rangeserver cache stats`` and ``list``: what is in the cache, for people and for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from rangeserver.cache.addresses import Addresses
from rangeserver.cache.cache_key import split_cache_key
from rangeserver.cache.inspection import CachedObject, Summary, contents, summarize
from rangeserver.cli.cache_access import ELSEWHERE, Names, opened_directory
from rangeserver.cli.options import CACHE_DIRECTORY, NAMES, config_from, config_options
from rangeserver.cli.words import printable
from rangeserver.config import Config
from rangeserver.figures import age_text, count_text, size_text


@click.command()
@config_options(CACHE_DIRECTORY)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def stats(*, as_json: bool, **options: Any) -> None:
    """Print how much is in the cache, and how much may be."""
    config = config_from(options, needs_bucket=False, needs_secrets=False)
    with opened_directory(config) as directory:
        summary = summarize(directory)
        disk = _Disk(directory.free_bytes(), directory.unlinked_bytes())
        if as_json:
            click.echo(json.dumps(_stats_fields(directory.path, summary, disk, config)))
        else:
            click.echo("\n".join(_stats_lines(directory.path, summary, disk, config)))


@dataclass(frozen=True, slots=True)
class _Disk:
    """Bytes that are free, and that removed objects still take because servers send them."""

    free: int
    held: int


def _stats_fields(path: Path, summary: Summary, disk: _Disk, config: Config) -> dict[str, object]:
    return {
        "directory": str(path),
        "objects": summary.objects,
        "complete_objects": summary.complete,
        "partial_objects": summary.objects - summary.complete,
        "cached_bytes": summary.cached_bytes,
        "disk_bytes": summary.disk_bytes,
        "max_bytes": int(config.cache.max_bytes),
        "held_bytes": disk.held,
        "free_bytes": disk.free,
        "min_free_bytes": int(config.cache.min_free_bytes),
        "oldest_use": _timestamp(summary.oldest_use),
        "newest_use": _timestamp(summary.newest_use),
        "unusable_files": summary.unusable,
        "foreign_files": len(summary.foreign_paths),
    }


def _stats_lines(path: Path, summary: Summary, disk: _Disk, config: Config) -> Iterator[str]:
    limit, reserve = int(config.cache.max_bytes), int(config.cache.min_free_bytes)
    partial = summary.objects - summary.complete
    yield f"directory  {path}"
    yield f"objects    {summary.objects}: {summary.complete} complete, {partial} in part"
    used = summary.disk_bytes * 100 // limit
    yield f"on disk    {size_text(summary.disk_bytes)} of {size_text(limit)} ({used} %)"
    if disk.held:
        yield f"held       {size_text(disk.held)} of removed objects that are still being sent"
    short = ", which is too little" if disk.free < reserve else ""
    yield f"free       {size_text(disk.free)}, at least {size_text(reserve)} is left{short}"
    if summary.newest_use is not None and summary.oldest_use is not None:
        newest, oldest = _age(summary.newest_use), _age(summary.oldest_use)
        yield f"last used  {newest} ago the newest, {oldest} ago the oldest"
    if summary.unusable:
        files = count_text(summary.unusable, "file")
        yield f"unusable   {files}: `rangeserver cache verify` names them"
    if summary.foreign_paths:
        first = printable(min(summary.foreign_paths))
        yield (
            f"not ours   {count_text(len(summary.foreign_paths), 'file')}, left alone: {first}"
            + (" ..." if len(summary.foreign_paths) > 1 else "")
        )


@click.command("list", short_help="List objects, the one used last first.")
@click.argument("keys", metavar="[KEY|PREFIX/]...", nargs=-1)
@config_options(*NAMES, CACHE_DIRECTORY)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_objects(*, keys: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """List the objects in the cache, the one used last first: all, or each KEY and whatever is
    below each PREFIX/.

    Objects that the configuration does not serve are named s3://bucket/key, here and in the list.
    """
    needs_bucket = not all(key.startswith(ELSEWHERE) for key in keys)
    config = config_from(options, needs_bucket=needs_bucket, needs_secrets=False)
    with opened_directory(config) as directory:
        names = Names(Addresses(config.mounted()))
        absent = set(keys)
        if not as_json:
            click.echo(_ROW.format("cached", "size", "%", "used", "checked", "etag", "key"))
        for each in contents(directory):
            if not isinstance(each, CachedObject):
                continue
            selected_by = {key for key in keys if names.selects(key, each.header.cache_key)}
            if selected_by or not keys:
                absent -= selected_by
                click.echo(json.dumps(_fields(each, names)) if as_json else _row(each, names))
        for key in keys:
            if key in absent:
                click.echo(f"{printable(key)}: nothing in the cache", err=True)


_ROW = "{:>10}  {:>10}  {:>3}  {:>6}  {:>7}  {:<34}  {}"


def _row(kept: CachedObject, names: Names) -> str:
    facts = kept.header.facts
    sizes = size_text(kept.cached_bytes), size_text(facts.size), kept.percent
    ages = _age(kept.found.used), _age(kept.header.checked) if kept.header.checked else "never"
    return _ROW.format(*sizes, *ages, printable(facts.etag), names.shown(kept.header.cache_key))


def _fields(kept: CachedObject, names: Names) -> dict[str, object]:
    endpoint, bucket, key = split_cache_key(kept.header.cache_key)
    facts = kept.header.facts
    return {
        "key": names.name(kept.header.cache_key),
        "endpoint": endpoint,
        "bucket": bucket,
        "object": key,
        "size": facts.size,
        "cached_bytes": kept.cached_bytes,
        "disk_bytes": kept.found.disk_bytes,
        "percent": kept.percent,
        "last_used": _timestamp(kept.found.used),
        "checked": _timestamp(kept.header.checked or None),
        "etag": facts.etag,
    }


def _age(moment: float) -> str:
    return age_text(time.time() - moment)


def _timestamp(moment: float | None) -> str | None:
    """RFC 3339, in UTC."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
