"""Players on kept connections, each asking for the next piece of its film when it has room for it.

The load of :mod:`bench.paced_players`. A player has a film and a place in it to begin at, reads
piece after piece by range requests, and goes on at the film's beginning when it comes to its end.
With ``open_ended`` it asks once for all the rest instead, and stops reading while it has enough, as
browsers do.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from bench.command import KIB, BenchError
from bench.load import Target
from bench.playback import Playback

_BUFFER = memoryview(bytearray(256 * KIB))
"""What all connections read into: nobody looks at it twice."""

_RECEIVE_BUFFER_BYTES = 64 * KIB
_HEADER = re.compile(rb"HTTP/1\.1 206 .*?\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE | re.DOTALL)
_START_SECONDS = 1.0
_TARGET_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Audience:
    """How many players there are, what they do, and in how many seconds they come one by one."""

    films: Sequence[Target]
    players: int
    bytes_per_second: float
    piece_bytes: int
    ramp_seconds: float
    seed: int
    open_ended: bool = False


@dataclass(slots=True)
class Watched:
    """What the players saw."""

    players: int = 0
    never_began: int = 0
    stalled: int = 0
    stalled_seconds: float = 0.0
    start_seconds: list[float] = field(default_factory=list)
    body_bytes: int = 0
    requests: int = 0


class Player(asyncio.BufferedProtocol):
    """One of them."""

    def __init__(self, audience: Audience, film: Target, position: int) -> None:
        self.failed: BenchError | None = None
        seconds = audience.piece_bytes / audience.bytes_per_second
        self.playback = Playback(
            audience.bytes_per_second,
            start_bytes=int(min(_START_SECONDS, seconds) * audience.bytes_per_second),
            target_bytes=int(max(_TARGET_SECONDS, 2 * seconds) * audience.bytes_per_second),
        )
        self.asked_first = 0.0
        self.requests = 0
        self._audience = audience
        self._film = film
        self._position = position
        self._header = b""
        self._in_body = False
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.asked_first = time.monotonic()
        self._ask()

    def _ask(self) -> None:
        self._timer = None
        if self._position >= self._film.size:
            self._position = 0
        last = self._film.size - 1
        if not self._audience.open_ended:
            last = min(self._position + self._audience.piece_bytes, self._film.size) - 1
        self._left = last + 1 - self._position
        self._header, self._in_body = b"", False
        self.requests += 1
        assert self._transport is not None
        self._transport.write(
            f"GET {self._film.path} HTTP/1.1\r\nHost: bench\r\n"
            f"Range: bytes={self._position}-{last}\r\n\r\n".encode()
        )

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's name)
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self.over:
            return
        body = nbytes
        if not self._in_body:
            self._header += _BUFFER[:nbytes]
            head, end, rest = self._header.partition(b"\r\n\r\n")
            if not end:
                return
            found = _HEADER.match(head + b"\r\n")
            if found is None or int(found[1]) != self._left:
                self._fail(f"{self._left} bytes asked for: {self._header[:300]!r}")
                return
            self._in_body, body = True, len(rest)
        self._take(body)

    def _take(self, count: int) -> None:
        now = time.monotonic()
        self.playback.take(count, now)
        self._position += count
        self._left -= count
        if self._left < 0:
            self._fail(f"{-self._left} bytes more than promised")
        elif not self._left:
            pause = self.playback.room_in(self._audience.piece_bytes, now)
            self._timer = asyncio.get_running_loop().call_later(pause, self._ask)
        elif self._audience.open_ended and self._timer is None:
            self._hold_if_full(now)

    def _hold_if_full(self, now: float) -> None:
        pause = self.playback.room_in(self._audience.piece_bytes, now)
        if pause:
            assert self._transport is not None
            self._transport.pause_reading()
            self._timer = asyncio.get_running_loop().call_later(pause, self._read_on)

    def _read_on(self) -> None:
        self._timer = None
        assert self._transport is not None
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended ({exc or 'closed'})")

    def _fail(self, what: str) -> None:
        if not self.over:
            self.failed = BenchError(f"{self._film.path}: {what}")
            self.close()

    def close(self) -> None:
        """End it; what it saw is complete."""
        if not self.over:
            self.over = True
            self.playback.finish(time.monotonic())
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()


class Players:
    """The players of an audience, from when they begin to come until they are dismissed."""

    def __init__(self, port: int, audience: Audience) -> None:
        self._port = port
        self._audience = audience
        self._random = random.Random(audience.seed)
        self._players: list[Player] = []

    async def come(self) -> None:
        """Return when all are there. Raises :class:`BenchError`."""
        audience = self._audience
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number in range(audience.players):
            due = begin + audience.ramp_seconds * number / audience.players
            await asyncio.sleep(max(due - loop.time(), 0))
            film = self._random.choice(audience.films)
            position = self._random.randrange(film.size)
            sock = socket.socket()
            sock.setblocking(False)
            if audience.open_ended:  # what the kernel takes, the player could not hold back
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            try:
                await loop.sock_connect(sock, ("127.0.0.1", self._port))
            except OSError as error:
                sock.close()
                msg = f"the server at port {self._port} cannot be reached: {error}"
                raise BenchError(msg) from error
            _, player = await loop.create_connection(
                lambda film=film, position=position: Player(audience, film, position),  # type: ignore[misc]
                sock=sock,
            )
            self._players.append(player)

    def leave(self) -> Watched:
        """Close all; what they saw. Raises the first error that one met."""
        watched = Watched(players=len(self._players))
        for player in self._players:
            player.close()
        for player in self._players:
            if player.failed is not None:
                raise player.failed
            playback = player.playback
            watched.requests += player.requests
            watched.body_bytes += playback.received
            watched.stalled += playback.stalls > 0
            watched.stalled_seconds += playback.stalled_seconds
            if playback.started is None:
                watched.never_began += 1
            else:
                watched.start_seconds.append(playback.started - player.asked_first)
        return watched
