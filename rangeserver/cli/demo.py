"""``rangeserver demo``: the server on sample files, without an AWS account."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

_NEEDED = {"moto", "werkzeug", "flask", "flask_cors", "boto3", "botocore"}
"""What the demo extra brings, by the names under which Python misses it."""


@click.command(short_help="Play sample videos; no AWS account needed.")
@click.option(
    "--video",
    type=click.Path(path_type=Path),
    help="A file of your own, of any size; it is not copied.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the page; else 8080, or any free one.",
)
@click.option(
    "--speed",
    type=click.IntRange(0),
    default=250,
    show_default=True,
    help="Rate of the samples in kB/s; 0: no limit.",
)
def demo(video: Path | None, port: int | None, speed: int) -> None:
    """Play sample videos from a bucket inside this process, on a page that shows each range."""
    from rangeserver.demo.bucket import UnusableFile, own_file, samples

    if video is None and not samples():
        _exit(
            "the sample videos are in the source tree only: name a file of yours with --video "
            "FILE, or run `make demo` there",
            2,
        )
    try:
        from rangeserver.demo.run import USUAL_PORT, listening_sockets, run_demo
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        _exit(
            "more packages are needed: `make demo`, or `pip install '.[demo]'` in the source tree",
            1,
        )
    try:
        own = own_file(video.expanduser()) if video is not None else None
    except UnusableFile as error:
        _exit(f"--video {error}", 2)
    try:
        sockets = listening_sockets(port)
    except OSError as error:
        _exit(f"cannot listen on 127.0.0.1 port {port}: {error.strerror}", 1)
    if port is None and sockets[0].getsockname()[1] != USUAL_PORT:
        click.echo(f"Port {USUAL_PORT} is taken, so the demo has another.")
    run_demo(
        sockets,
        own,
        bytes_per_second=speed * 1000,
        on_ready=lambda url: click.echo(f"The demo is at {url}\nCtrl-C ends it."),
    )


def _exit(message: str, code: int) -> NoReturn:
    click.echo(f"rangeserver: demo: {message}", err=True)
    sys.exit(code)
