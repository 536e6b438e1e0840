"""The application as others run it: with ``web.run_app``, or in a worker of gunicorn.

Started as a process of its own, by :func:`tests.wire.running.elsewhere`.
"""

from __future__ import annotations

import os
import socket
import sys

from aiohttp import web

from rangeserver.app import create_app
from rangeserver.config import Config

CONFIG = "RANGESERVER_TEST_CONFIG"
"""The environment variable that holds the configuration, as JSON."""


async def application() -> web.Application:
    """What gunicorn's worker asks for."""
    return create_app(Config.model_validate_json(os.environ[CONFIG]))


def command(runner: str, descriptor: int) -> list[str]:
    """What serves on a listening socket that is inherited."""
    if runner == "run_app":
        return [sys.executable, "-m", __name__, str(descriptor)]
    assert runner == "gunicorn"
    return [
        *(sys.executable, "-m", "gunicorn", f"{__name__}:application"),
        *("--worker-class", "aiohttp.GunicornWebWorker", "--bind", f"fd://{descriptor}"),
        *("--keep-alive", "75", "--graceful-timeout", "1", "--log-level", "warning"),
    ]


if __name__ == "__main__":
    web.run_app(application(), sock=socket.socket(fileno=int(sys.argv[1])), print=None)
