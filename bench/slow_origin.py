"""An origin with a latency and a rate: ``python -m bench.slow_origin --help``.

It speaks as much of S3 as a range server needs: HEAD, and GET of an object or one range of it, of
objects that all look alike. Every answer waits; what is late on top is drawn per request, from a
seed. Bodies come as fast as they can, or at so many bytes per second on each connection.
``GET /-/counts`` tells what it was asked, those requests included that were given up before their
answer, how many bytes it sent, and how many connections wait for an answer or are in the midst of
one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

from bench.command import MIB
from rangeserver.process.loop import new_event_loop

OBJECT_BYTES = 64 * MIB
COUNTS_PATH = b"/-/counts"
PATTERN = random.Random(0).randbytes(MIB)
"""Every object repeats it."""

_ETAG = b'"slow-origin"'
_MODIFIED = b"Thu, 01 Jan 2026 00:00:00 GMT"
_REQUEST = re.compile(rb"(GET|HEAD) (\S+) HTTP/1\.[01]\r\n")
_RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d*)\r\n", re.IGNORECASE)
_BODY = memoryview(PATTERN)
_PIECE_BYTES = 256 * 1024
_TICK_SECONDS = 0.004
"""Between two pieces of a paced body; what a tick came late, the next one makes up for."""


@dataclass(slots=True)
class Habits:
    """How it answers, and what it was asked and did so far."""

    usual_seconds: float
    late_seconds: float
    late_percent: float
    draw: random.Random
    object_bytes: int = OBJECT_BYTES
    bytes_per_second: float = 0.0
    """Of one body; 0 is no limit."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("GET", "HEAD", "late", "bytes", "answering"), 0)
    )

    def pause(self, method: str) -> float:
        """Seconds until the answer to one more request."""
        self.counts[method] += 1
        if self.draw.random() * 100 < self.late_percent:
            self.counts["late"] += 1
            return self.late_seconds
        return self.usual_seconds


class Pace:
    """How much of a body is due. While its receiver takes nothing, nothing becomes due."""

    def __init__(self, bytes_per_second: float, now: float) -> None:
        self._rate = bytes_per_second
        self._began = now
        self._held_since: float | None = None

    def due(self, now: float) -> int:
        """Bytes since the beginning."""
        until = now if self._held_since is None else self._held_since
        return int((until - self._began) * self._rate)

    def hold(self, now: float) -> None:
        """The receiver takes no more."""
        self._held_since = now

    def go_on(self, now: float) -> None:
        """It does again."""
        if self._held_since is not None:
            self._began += now - self._held_since
            self._held_since = None


class SlowConnection(asyncio.Protocol):
    """One connection: requests in order, each answered after its pause."""

    def __init__(self, habits: Habits) -> None:
        self._habits = habits
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: deque[bytes] = deque()
        self._answering = False
        self._timer: asyncio.TimerHandle | None = None
        self._position = self._stop = self._start = 0
        self._pace: Pace | None = None
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._waiting.append(self._received[: end + 2])
            self._received = self._received[end + 4 :]
        self._begin()

    def _begin(self) -> None:
        while self._waiting and not self._answering:
            header = self._waiting.popleft()
            request = _REQUEST.match(header)
            assert self._transport is not None
            if request is None:
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            elif request[2] == COUNTS_PATH:
                counts = json.dumps(self._habits.counts).encode()
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(counts)
                self._transport.write(head + counts)
            else:
                self._answering = True
                self._habits.counts["answering"] += 1
                pause = self._habits.pause(request[1].decode())
                later = asyncio.get_running_loop().call_later
                self._timer = later(pause, self._answer, request[1], header)

    def _answer(self, method: bytes, header: bytes) -> None:
        size, rate = self._habits.object_bytes, self._habits.bytes_per_second
        self._start, self._stop = _span(header, size)
        self._position = self._start
        assert self._transport is not None
        self._transport.write(_head(self._start, self._stop, size, header))
        if method == b"HEAD":
            self._stop = self._position
        self._pace = Pace(rate, time.monotonic()) if rate else None
        self._send()

    def _send(self) -> None:
        """Send what is due of the body, as long as it is taken."""
        self._timer = None
        assert self._transport is not None
        due = self._stop
        if self._pace is not None:
            due = min(due, self._start + self._pace.due(time.monotonic()))
        while self._position < due and not self._held:
            offset = self._position % len(_BODY)
            piece = _BODY[offset : offset + min(_PIECE_BYTES, due - self._position)]
            self._position += len(piece)
            self._habits.counts["bytes"] += len(piece)
            self._transport.write(piece)
        if self._position >= self._stop:
            self._end_answer()
            self._begin()
        elif not self._held:
            self._timer = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._send)

    def pause_writing(self) -> None:
        self._held = True
        if self._pace is not None:
            self._pace.hold(time.monotonic())

    def resume_writing(self) -> None:
        self._held = False
        if self._pace is not None:
            self._pace.go_on(time.monotonic())
        if self._answering and self._position < self._stop and self._timer is None:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        if self._timer is not None:
            self._timer.cancel()
        self._held = True
        self._waiting.clear()
        if self._answering:
            self._end_answer()

    def _end_answer(self) -> None:
        self._answering = False
        self._habits.counts["answering"] -= 1


def _span(header: bytes, size: int) -> tuple[int, int]:
    wanted = _RANGE.search(header)
    if wanted is None:
        return 0, size
    return int(wanted[1]), min(int(wanted[2]) + 1 if wanted[2] else size, size)


def _head(start: int, stop: int, size: int, header: bytes) -> bytes:
    status, where = b"200 OK", b""
    if _RANGE.search(header) is not None:
        status = b"206 Partial Content"
        where = b"Content-Range: bytes %d-%d/%d\r\n" % (start, stop - 1, size)
    fields = b"ETag: %b\r\nLast-Modified: %b\r\n" % (_ETAG, _MODIFIED)
    fields += b"Content-Type: video/mp4\r\nAccept-Ranges: bytes\r\n"
    return b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n" % (status, fields, where, stop - start)


async def serve(habits: Habits) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: SlowConnection(habits), "127.0.0.1", 0, backlog=4096)
    print(f"listening at port {server.sockets[0].getsockname()[1]}", flush=True)
    await stopped.wait()
    server.close()


def main() -> None:
    """Serve as the options say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--usual-ms", type=float, default=5.0)
    parser.add_argument("--late-ms", type=float, default=1000.0)
    parser.add_argument("--late-percent", type=float, default=0.0)
    parser.add_argument("--object-mib", type=int, default=OBJECT_BYTES // MIB)
    parser.add_argument("--megabytes-per-second", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    habits = Habits(
        usual_seconds=options.usual_ms / 1000,
        late_seconds=options.late_ms / 1000,
        late_percent=options.late_percent,
        draw=random.Random(options.seed),
        object_bytes=options.object_mib * MIB,
        bytes_per_second=options.megabytes_per_second * 1e6,
    )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(habits))


if __name__ == "__main__":
    main()
