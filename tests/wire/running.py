"""The whole server, and the fake origin behind it, in a thread of their own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from rangeserver.web.exchange import Exchange
from tests.fakes.s3 import FakeS3, SeenRequest
from tests.loops import FairUvloop
from tests.support import RunningApp, config_for, running_app
from tests.wire.elsewhere import CONFIG, command

_START_SECONDS = 60.0

Asked = tuple[str, str | None, str | None]
"""A request to the origin: its method, Range and If-Match."""


def opens(value: str | None = None) -> Asked:
    """A GET for facts and bytes together, of whatever version there is."""
    return "GET", value, None


def reads(start: int, stop: int, etag: str) -> Asked:
    """A GET for the bytes ``start <= offset < stop`` of a version that is known."""
    return "GET", f"bytes={start}-{stop - 1}", etag


DESCRIBES: Asked = ("HEAD", None, None)
"""For facts alone."""


def requests(seen: Iterable[SeenRequest]) -> list[Asked]:
    """What the origin was asked. Never does it hear of another condition than If-Match."""
    for each in seen:
        assert not {"if-none-match", "if-modified-since", "if-unmodified-since", "if-range"} & set(
            each.headers
        )
    return [(each.method, each.headers.get("range"), each.headers.get("if-match")) for each in seen]


@dataclass(frozen=True, slots=True)
class Site:
    """A running server as its clients see it, and the origin it asks."""

    origin: FakeS3
    port: int
    app: RunningApp | None
    """``None`` if it runs in another process."""
    finished: SimpleQueue[Exchange]
    """What the server recorded of each request, in the order in which they ended."""

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def running(self) -> RunningApp:
        assert self.app is not None
        return self.app

    @contextmanager
    def asking(self) -> Iterator[list[SeenRequest]]:
        """The requests that reached the origin; filled in when the block is left."""
        before = len(self.origin.requests)
        seen: list[SeenRequest] = []
        yield seen
        seen += self.origin.requests[before:]


@contextmanager
def site(
    *,
    server: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
) -> Iterator[Site]:
    """Serve until the block is left, with the product's own event loop."""

    @asynccontextmanager
    async def served(fake: FakeS3) -> AsyncIterator[Site]:
        finished: SimpleQueue[Exchange] = SimpleQueue()
        config = config_for(fake, server=server, origin=origin, cache=cache)
        async with running_app(config, observers=[finished.put]) as running:
            yield Site(fake, running.port, running, finished)

    with _in_a_thread(served) as place:
        yield place


@contextmanager
def elsewhere(runner: str) -> Iterator[Site]:
    """The same with the application in another process, run by aiohttp or gunicorn."""

    @asynccontextmanager
    async def served(fake: FakeS3) -> AsyncIterator[Site]:
        config = config_for(fake, origin={"signing": "per-request"})
        with socket.create_server(("127.0.0.1", 0)) as listening:
            process = await asyncio.to_thread(
                subprocess.Popen,
                command(runner, listening.fileno()),
                pass_fds=[listening.fileno()],
                env={**os.environ, CONFIG: config.model_dump_json()},
            )
            try:
                yield Site(fake, listening.getsockname()[1], None, SimpleQueue())
            finally:
                process.terminate()
                try:
                    await asyncio.to_thread(process.wait, _START_SECONDS)
                finally:
                    process.kill()

    with _in_a_thread(served) as place:
        yield place


@contextmanager
def _in_a_thread(
    served: Callable[[FakeS3], AbstractAsyncContextManager[Site]],
) -> Iterator[Site]:
    started: SimpleQueue[Site | BaseException] = SimpleQueue()
    loop_and_stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        loop_and_stop.append((asyncio.get_running_loop(), stop))
        async with FakeS3() as fake, served(fake) as place:
            started.put(place)
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=FairUvloop) as runner:
                runner.run(serve())
        except BaseException as error:
            started.put(error)
            raise

    thread = threading.Thread(target=run, name="site")
    thread.start()
    try:
        outcome = started.get(timeout=_START_SECONDS)
        if isinstance(outcome, BaseException):
            raise outcome
        yield outcome
    finally:
        for loop, stop in loop_and_stop:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)
        thread.join(_START_SECONDS)
        assert not thread.is_alive(), "the server does not stop"


def in_its_thread(place: Site, action: Callable[[], None]) -> None:
    """Run ``action`` in the site's loop, without waiting for it."""
    place.running.server.service.loop.call_soon_threadsafe(action)
