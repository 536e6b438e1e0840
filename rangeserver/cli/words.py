"""Figures as people read them, and what a command shows while it works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_AGES = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def size_text(count: int) -> str:
    """A number of bytes: ``1.5 GiB``."""
    if count < 1024:
        return f"{count} B"
    size, unit = count / 1024, 0
    while round(size, 1) >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}"


def age_text(seconds: float) -> str:
    """A time span, by its largest unit: ``3 min``. What lies ahead is now: clocks differ."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "0 s"


def count_text(count: int, noun: str) -> str:
    """``1 object``, ``2 objects``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey."""
    return text if text.isprintable() else ascii(text)


@contextmanager
def progress(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """A bar of bytes on standard error, if that is a terminal; yields what moves it on."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        bar.update(count, f"{size_text(done)} of {size_text(total)}")

    with click.progressbar(
        length=total,
        label=label,
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
        show_percent=True,
        item_show_func=lambda shown: shown,
        update_min_steps=max(total // 1000, 1),
    ) as bar:
        yield advance
