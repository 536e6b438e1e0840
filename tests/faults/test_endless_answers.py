"""An origin that talks without end and says nothing: it is not listened to for long, takes no
memory, and others are served meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.s3 import FakeS3
from tests.faults.memory import resident_bytes
from tests.support import RawClient, RunningApp, config_for, running_app

GOOD = random.Random(8).randbytes(300_000)
CACHE = pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])
PART = (
    b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\n'
    b"Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\nContent-Range: bytes 0-%d/%d\r\n"
)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS_PART = PART % (99_999_999, 100_000_000) + CHUNKED
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
FIELD = b"X-A: " + b"b" * 4000 + b"\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n" + FIELD * 7 + b"\r\n"

ENDLESS = {
    "interim answers": (b"", INTERIM * 10_000),
    "chunks of one byte": (ENDLESS_PART, b"1\r\nx\r\n" * 40_000),
    "a chunk extension": (ENDLESS_PART + b"5;a=", b"1" * 250_000),
    "chunk extensions": (ENDLESS_PART, (b"1;a=" + b"1" * 1000 + b"\r\nx\r\n") * 250),
}


def plain(before: bytes, fields: bytes) -> bytes:
    """An answer with the body ``hello``, after what is interim."""
    return before + PART % (4, 5) + fields + b"Content-Length: 5\r\n\r\nhello"


def chunked(size: int, chunks: bytes) -> bytes:
    """One with a body of ``size`` bytes in ``chunks``."""
    return PART % (size - 1, size) + CHUNKED + chunks + b"0\r\n\r\n"


NEARLY: dict[str, tuple[bytes, bytes]] = {
    "interim answers": (plain(INTERIM * 15, b""), plain(INTERIM * 16, b"")),
    "fields": (plain(b"", FIELD * 15), plain(b"", FIELD * 17)),
    "fields of interim answers": (plain(HINTS * 2, b""), plain(HINTS * 3, b"")),
    "chunks of one byte": (
        chunked(10_000, b"1\r\nx\r\n" * 10_000),
        chunked(40_000, b"1\r\nx\r\n" * 40_000),
    ),
    "a chunk extension": (
        chunked(5, b"5;a=" + b"1" * 60_000 + b"\r\nhello\r\n"),
        chunked(5, b"5;a=" + b"1" * 100_000 + b"\r\nhello\r\n"),
    ),
}
"""As much of each as is taken, and too much."""

ACCEPTED_BYTES = 24 << 20
"""What kernels have room for comes on top of what is read."""


@dataclass(slots=True)
class Endless:
    """An origin that sends ``start``, and then ``more``, if any, for as long as it is taken."""

    start: bytes
    more: bytes = b""
    port: int = 0
    sent: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1")
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.start)
            while self.more and sent < ACCEPTED_BYTES:
                writer.write(self.more)
                await writer.drain()
                sent += len(self.more)
                await asyncio.sleep(0)
            if not self.more:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.sent.append(sent)
            writer.transport.abort()


@asynccontextmanager
async def served(
    origin: Endless, fake: FakeS3, directory: Path, *, cached: bool
) -> AsyncIterator[RunningApp]:
    """The server, with ``origin`` behind ``/endless/`` and ``fake`` behind all else."""
    async with origin.listening():
        mount = {
            "path": "/endless/",
            "bucket": "films",
            "endpoint_url": f"http://127.0.0.1:{origin.port}",
        }
        cache = {"enabled": True, "directory": str(directory), "min_free_bytes": 0}
        patience = {"response_seconds": 2}
        config = config_for(fake, origin=patience, cache=cache if cached else None)
        config = type(config).model_validate({**config.model_dump(), "mounts": [mount]})
        async with running_app(config) as app:
            yield app


@pytest.mark.fault("A32")
@CACHE
@pytest.mark.parametrize("what", ENDLESS)
async def test_an_endless_answer_is_given_up(
    fake: FakeS3, tmp_path: Path, what: str, *, cached: bool
) -> None:
    origin = Endless(*ENDLESS[what])
    fake.put("good", GOOD)
    async with (
        served(origin, fake, tmp_path, cached=cached) as app,
        await RawClient.connect(app.port) as client,
    ):
        assert (await client.get("/good")).body == GOOD
        before = resident_bytes()
        async with await RawClient.connect(app.port) as victim:
            await victim.ask("/endless/a", Range="bytes=0-99999999")
            while not origin.sent:
                assert (await client.get("/good")).body == GOOD
            status, headers = await victim.head()
            if status == 206:
                assert len(await victim.rest()) < int(headers["content-length"])
                assert victim.was_reset
            else:
                assert status in {502, 504}  # at once, or when it was asked often enough
        assert max(origin.sent) < ACCEPTED_BYTES
        assert resident_bytes() - before < 20 << 20
        assert (await client.get("/good")).body == GOOD


@pytest.mark.fault("A32")
@CACHE
@pytest.mark.parametrize("what", NEARLY)
async def test_so_much_and_no_more_is_taken_besides_a_body(
    fake: FakeS3, tmp_path: Path, what: str, *, cached: bool
) -> None:
    """Though the answer is a good one otherwise, and ends."""
    for answer, taken in zip(NEARLY[what], (True, False), strict=True):
        size = int(answer.partition(b"Content-Range: ")[2].partition(b"\r\n")[0].partition(b"/")[2])
        async with (
            served(Endless(answer), fake, tmp_path / str(taken), cached=cached) as app,
            await RawClient.connect(app.port) as client,
        ):
            response = await client.get("/endless/a", Range=f"bytes=0-{size - 1}")
            if taken:
                assert (response.status, len(response.body)) == (206, size)
            else:
                assert response.status == 502 or not response.complete
