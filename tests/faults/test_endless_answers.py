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
from tests.support import RawClient, config_for, running_app

GOOD = random.Random(8).randbytes(300_000)
HEAD = (
    b'HTTP/1.1 200 OK\r\nETag: "a"\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n'
    b"Content-Length: 100000000\r\n"
)
PART = (
    b'HTTP/1.1 206 Partial Content\r\nETag: "a"\r\n'
    b"Content-Range: bytes 0-99999999/100000000\r\nTransfer-Encoding: chunked\r\n\r\n"
)

ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 5_000),
    "fields": (HEAD, b"X-A: b\r\n" * 30_000),
    "large fields": (HEAD, (b"X-A: " + b"b" * 4000 + b"\r\n") * 60),
    "a status line": (b"HTTP/1.1 200 ", b"O" * 250_000),
    "chunks of one byte": (PART, b"1\r\nx\r\n" * 40_000),
    "a chunk extension": (PART + b"5;a=", b"1" * 250_000),
    "chunk extensions": (PART, (b"1;a=" + b"1" * 1000 + b"\r\nx\r\n") * 250),
    "trailers": (PART + b"5\r\nhello\r\n0\r\n", b"X-A: b\r\n" * 30_000),
}

CASES = [(what, cached) for what in ENDLESS for cached in (False, True)]
# These have bytes of the object: how often a fetch goes on with them is for the resume budget.
CASES.remove(("chunks of one byte", True))
CASES.remove(("chunk extensions", True))

ACCEPTED_BYTES = 24 << 20
"""What kernels have room for comes on top of what is read."""


@dataclass(slots=True)
class Endless:
    """An origin that sends ``start``, and then ``more`` for as long as it is taken."""

    start: bytes
    more: bytes
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
            while sent < ACCEPTED_BYTES:
                writer.write(self.more)
                await writer.drain()
                sent += len(self.more)
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.sent.append(sent)
            writer.transport.abort()


@pytest.mark.fault("A32")
@pytest.mark.parametrize(("what", "cached"), CASES)
async def test_an_endless_answer_is_given_up(
    fake: FakeS3, tmp_path: Path, what: str, cached: bool
) -> None:
    origin = Endless(*ENDLESS[what])
    fake.put("good", GOOD)
    async with origin.listening():
        mount = {
            "path": "/endless/",
            "bucket": "films",
            "endpoint_url": f"http://127.0.0.1:{origin.port}",
        }
        cache = {"enabled": True, "directory": str(tmp_path), "min_free_bytes": 0}
        patience = {"response_seconds": 2}
        config = config_for(fake, origin=patience, cache=cache if cached else None)
        config = type(config).model_validate({**config.model_dump(), "mounts": [mount]})
        async with running_app(config) as app, await RawClient.connect(app.port) as client:
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
