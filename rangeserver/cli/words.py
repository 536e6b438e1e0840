"""What a command shows on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from rangeserver.figures import size_text


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
