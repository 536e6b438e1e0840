"""Servers in processes of their own that are there within milliseconds, to be stopped and killed.

They are forked off one that is ready (:mod:`tests.forking`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rangeserver.app import METRICS
from rangeserver.config import Config
from tests.clients import cheap_clients
from tests.exposition import scrape
from tests.faults.logs import FORBIDDEN
from tests.forking import context
from tests.loops import FairUvloop, kernel_comes_last
from tests.support import DEADLINE_SECONDS, eventually, running_app


@dataclass(slots=True)
class Forked:
    """A server's process; ``port`` is where it listens."""

    process: BaseProcess
    port: int
    log: Path
    told: Connection

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        self.send(signal.SIGKILL)
        await asyncio.to_thread(self.process.join)

    async def series(self) -> Mapping[str, float]:
        """The sums of its metrics by name."""
        self.told.send("metrics")
        await eventually(self.told.poll)
        found: Mapping[str, float] = self.told.recv()
        return found


@asynccontextmanager
async def forked(
    config: Config, log: Path, constants: Mapping[str, Any] | None = None
) -> AsyncIterator[Forked]:
    """A server; what it logs goes to ``log`` and must not hold what no log may hold.

    ``constants`` replaces some, by their dotted names.
    """
    own, other = context.Pipe()
    process = context.Process(
        target=_serve,
        args=(config.model_dump(mode="json"), str(log), dict(constants or {}), other),
        daemon=True,
    )
    await asyncio.to_thread(process.start)
    other.close()
    try:
        await eventually(own.poll, DEADLINE_SECONDS)
        yield Forked(process, own.recv(), log, own)
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGCONT)
            own.send("end")
            await asyncio.to_thread(process.join, DEADLINE_SECONDS)
            assert process.exitcode == 0
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        own.close()
    _check(log)


def _check(log: Path) -> None:
    said = log.read_text()
    assert not FORBIDDEN.search(said), said


def _serve(config: dict[str, Any], log: str, constants: dict[str, Any], pipe: Connection) -> None:
    handler = logging.FileHandler(log)
    logging.basicConfig(handlers=[handler], level=logging.INFO, format="%(message)s")
    with cheap_clients(), kernel_comes_last():
        for name, value in constants.items():
            patch(name, value).start()
        with asyncio.Runner(loop_factory=FairUvloop) as runner:
            runner.run(_until_told(Config.model_validate(config), pipe))


async def _until_told(config: Config, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    async with running_app(config) as app:

        def told() -> None:
            try:
                what = pipe.recv()
            except EOFError:
                what = "end"
            if what == "metrics":
                sums: dict[str, float] = {}
                for (name, _), value in scrape(app.app[METRICS]).values.items():
                    sums[name] = sums.get(name, 0.0) + value
                pipe.send(sums)
            else:
                loop.remove_reader(pipe.fileno())
                over.set()

        loop.add_reader(pipe.fileno(), told)
        pipe.send(app.port)
        await over.wait()
