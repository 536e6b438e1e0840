"""Running the command in a process of its own that need not import everything anew.

Many tests look at what a command says and with what it ends; that it starts at all is seen by those
that run it as users do (:func:`tests.cli.commands.run`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from rangeserver.cli.main import main
from tests.cli.commands import DEADLINE_SECONDS, Finished, environment
from tests.clients import cheap_clients
from tests.forking import context


async def run_forked(*arguments: str, environ: Mapping[str, str | None] | None = None) -> Finished:
    """Run the command to its end, as :func:`~tests.cli.commands.run` does."""
    return await asyncio.to_thread(_finished, arguments, environment(environ))


def _finished(arguments: tuple[str, ...], environ: dict[str, str]) -> Finished:
    with TemporaryDirectory() as directory:
        out, err = Path(directory, "out"), Path(directory, "err")
        process = context.Process(
            target=_run, args=(arguments, environ, str(out), str(err)), daemon=True
        )
        process.start()
        try:
            process.join(DEADLINE_SECONDS)
            assert process.exitcode is not None, f"it never ended: {err.read_text()}"
            return Finished(process.exitcode, out.read_text(), err.read_text())
        finally:
            process.kill()
            process.join()
            process.close()


def _run(arguments: tuple[str, ...], environ: dict[str, str], out: str, err: str) -> None:
    for path, standard in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.dup2(opened, standard)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[1:] = arguments
    with cheap_clients():
        main(arguments, prog_name="python -m rangeserver")
