"""An origin of which some answers are late: ``python -m bench.slow_origin --help``.

It speaks as much of S3 as a range server needs: HEAD, and GET of one range, of objects that all
look alike. What is late is drawn per request, from a seed. ``GET /-/counts`` tells how many
requests it was asked, those included that were given up before their answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
from collections import deque
from dataclasses import dataclass, field
from typing import cast

from rangeserver.process.loop import new_event_loop

OBJECT_BYTES = 64 << 20
COUNTS_PATH = b"/-/counts"
_ETAG = b'"slow-origin"'
_MODIFIED = b"Thu, 01 Jan 2026 00:00:00 GMT"
_REQUEST = re.compile(rb"(GET|HEAD) (\S+) HTTP/1\.1\r\n")
_RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)
_BODY = memoryview(random.Random(0).randbytes(1 << 20))


@dataclass(slots=True)
class Habits:
    """How it answers, and what it was asked so far."""

    usual_seconds: float
    late_seconds: float
    late_percent: float
    draw: random.Random
    counts: dict[str, int] = field(default_factory=lambda: {"GET": 0, "HEAD": 0, "late": 0})

    def pause(self, method: str) -> float:
        """Seconds until the answer to one more request."""
        self.counts[method] += 1
        if self.draw.random() * 100 < self.late_percent:
            self.counts["late"] += 1
            return self.late_seconds
        return self.usual_seconds


class SlowConnection(asyncio.Protocol):
    """One connection: requests in order, each answered after its pause."""

    def __init__(self, habits: Habits) -> None:
        self._habits = habits
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._waiting.append(self._received[: end + 2])
            self._received = self._received[end + 4 :]
        self._begin()

    def _begin(self) -> None:
        if self._timer is not None or not self._waiting:
            return
        header = self._waiting.popleft()
        request = _REQUEST.match(header)
        if request is None:
            self._answer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        elif request[2] == COUNTS_PATH:
            counts = json.dumps(self._habits.counts).encode()
            self._answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(counts), counts))
        else:
            pause = self._habits.pause(request[1].decode())
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(pause, self._answer, *_object_answer(request, header))

    def _answer(self, *pieces: bytes | memoryview) -> None:
        self._timer = None
        assert self._transport is not None
        self._transport.writelines(pieces)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()


def _object_answer(request: re.Match[bytes], header: bytes) -> list[bytes | memoryview]:
    fields = b"ETag: %b\r\nLast-Modified: %b\r\nContent-Type: video/mp4\r\nAccept-Ranges: bytes\r\n"
    fields %= (_ETAG, _MODIFIED)
    wanted = _RANGE.search(header)
    if request[1] == b"HEAD" or wanted is None:
        # Whole objects are not asked for by the benchmark, and not given.
        status = b"200 OK" if request[1] == b"HEAD" else b"501 Not Implemented"
        length = OBJECT_BYTES if request[1] == b"HEAD" else 0
        return [b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n" % (status, fields, length)]
    start, last = int(wanted[1]), min(int(wanted[2]), OBJECT_BYTES - 1)
    length = last - start + 1
    head = b"HTTP/1.1 206 Partial Content\r\n%bContent-Range: bytes %d-%d/%d\r\n" % (
        *(fields, start, last),
        OBJECT_BYTES,
    )
    body = [_BODY[: min(left, len(_BODY))] for left in range(length, 0, -len(_BODY))]
    return [head + b"Content-Length: %d\r\n\r\n" % length, *body]


async def serve(habits: Habits) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: SlowConnection(habits), "127.0.0.1", 0)
    print(f"listening at port {server.sockets[0].getsockname()[1]}", flush=True)
    await stopped.wait()
    server.close()


def main() -> None:
    """Serve as the options say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--usual-ms", type=float, default=5.0)
    parser.add_argument("--late-ms", type=float, default=1000.0)
    parser.add_argument("--late-percent", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    habits = Habits(
        usual_seconds=options.usual_ms / 1000,
        late_seconds=options.late_ms / 1000,
        late_percent=options.late_percent,
        draw=random.Random(options.seed),
    )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(habits))


if __name__ == "__main__":
    main()
