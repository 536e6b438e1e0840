"""Clients that ask for random ranges, one after another on each kept connection, and check them.

A closed loop: a connection asks again once it has its answer. Every answer has to be 206, for
exactly the range asked for, and as long; the first that is not ends the run. Bytes are received
into one buffer and not looked at, so that the load costs far less than what it measures.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from bench.command import BenchError

_BUFFER_BYTES = 256 * 1024
_MAX_HEADER_BYTES = 16 * 1024
_STUCK_SECONDS = 60.0
"""After the end of a run, for the answers that are still on their way."""

_FIELD = re.compile(rb"\r\n([A-Za-z-]+): *([^\r]*)")


@dataclass(frozen=True, slots=True)
class Target:
    """An object to ask for."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for, and how often: until ``requests`` are done or ``seconds`` are over.

    A connection pauses for ``pause_seconds`` between an answer and its next request.
    """

    targets: Sequence[Target]
    range_bytes: int
    connections: int
    seed: int
    requests: int | None = None
    seconds: float | None = None
    pause_seconds: float = 0.0


@dataclass(slots=True)
class Result:
    """What a run did. ``first_bytes`` holds, for each answer, the seconds to its first byte."""

    requests: int = 0
    body_bytes: int = 0
    seconds: float = 0.0
    first_bytes: list[float] = field(default_factory=list)


async def put_load(port: int, load: Load) -> Result:
    """Put ``load`` on the server at ``port``. Raises :class:`BenchError` at a wrong answer."""
    loop = asyncio.get_running_loop()
    result = Result()
    asking = _Asking(load, result)
    clients: list[_Client] = []
    started = time.perf_counter()
    try:
        for _ in range(load.connections):
            _, client = await loop.create_connection(
                lambda: _Client(port, asking), "127.0.0.1", port
            )
            clients.append(client)
        deadline = _STUCK_SECONDS + (load.seconds if load.seconds is not None else 3600.0)
        async with asyncio.timeout(deadline):
            await asyncio.gather(*(client.done for client in clients))
    except TimeoutError:
        msg = f"the server left requests without a whole answer for {_STUCK_SECONDS:.0f} s"
        raise BenchError(msg) from None
    except OSError as error:
        msg = f"the server at port {port} cannot be reached: {error}"
        raise BenchError(msg) from error
    finally:
        for client in clients:
            client.close()
    result.seconds = time.perf_counter() - started
    return result


class _Asking:
    """Decides what is asked next, and when to stop."""

    def __init__(self, load: Load, result: Result) -> None:
        self.load = load
        self.result = result
        self._random = random.Random(load.seed)
        self._left = load.requests
        self._until = time.perf_counter() + load.seconds if load.seconds is not None else None

    def next(self) -> tuple[Target, int] | None:
        """The next object and start of a range of it, or ``None`` when it is enough."""
        if self._until is not None and time.perf_counter() >= self._until:
            return None
        if self._left is not None:
            if not self._left:
                return None
            self._left -= 1
        target = self._random.choice(self.load.targets)
        return target, self._random.randrange(target.size - self.load.range_bytes + 1)


class _Client(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, port: int, asking: _Asking) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host = f"127.0.0.1:{port}"
        self._asking = asking
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._header = b""
        self._left = 0
        self._range = b""
        self._asked = 0.0
        self._first = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._ask()

    def _ask(self) -> None:
        if self.done.done():  # ended while it paused
            return
        wanted = self._asking.next()
        if wanted is None:
            self._finish(None)
            return
        target, start = wanted
        last = start + self._asking.load.range_bytes - 1
        self._range = b"bytes %d-%d/%d" % (start, last, target.size)
        self._header = b""
        self._first = 0.0
        assert self._transport is not None
        self._asked = time.perf_counter()
        self._transport.write(
            f"GET {target.path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Range: bytes={start}-{last}\r\n\r\n".encode()
        )

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's name)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._first:
            self._first = time.perf_counter()
        body = nbytes
        if not self._left:
            self._header += self._buffer[:nbytes]
            end = self._header.find(b"\r\n\r\n")
            if end < 0 and len(self._header) < _MAX_HEADER_BYTES:
                return
            if not self._header_is_right(self._header[: max(end, 0)]):
                return
            body = len(self._header) - end - 4
            self._left = self._asking.load.range_bytes
        self._left -= body
        if self._left < 0:
            self._fail(f"{-self._left} bytes more than promised")
        elif not self._left:
            self._answered()

    def _header_is_right(self, header: bytes) -> bool:
        status = header[:13].split(b" ")[1:2]
        fields = {name.lower(): value for name, value in _FIELD.findall(header)}
        got = (status, fields.get(b"content-length"), fields.get(b"content-range"))
        wanted = ([b"206"], str(self._asking.load.range_bytes).encode(), self._range)
        if got != wanted:
            self._fail(f"status, length and range {got}, wanted {wanted}")
        return got == wanted

    def _answered(self) -> None:
        result = self._asking.result
        result.requests += 1
        result.body_bytes += self._asking.load.range_bytes
        result.first_bytes.append(self._first - self._asked)
        pause = self._asking.load.pause_seconds
        if pause:
            asyncio.get_running_loop().call_later(pause, self._ask)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended ({exc or 'closed'})")

    def _fail(self, what: str) -> None:
        self._finish(BenchError(f"wrong answer: {what}; header so far: {self._header[:300]!r}"))

    def _finish(self, error: BenchError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self.close()

    def close(self) -> None:
        if not self.done.done():
            self.done.cancel()
        if self._transport is not None:
            self._transport.abort()


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of them do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank) - 1, 0)]
