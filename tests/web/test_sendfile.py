"""Slices of files on their way to clients: through the kernel, or by copying over TLS."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from rangeserver.origin.base import Begun, FileSlice, Origin, Part, Representation
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.protocol.response_plan import ResponsePlan
from rangeserver.web import sendfile
from rangeserver.web.body_writer import send_body
from rangeserver.web.client_progress import ClientDeadlines, ProgressWatch
from rangeserver.web.exchange import EXCHANGE, Exchange, Outcome
from rangeserver.web.exchanges import Exchanges
from rangeserver.web.middlewares.access import recorded
from rangeserver.web.middlewares.errors import errors_as_json
from rangeserver.web.range_response import RangeResponse
from rangeserver.web.sendfile import Room
from tests.support import RawClient, eventually, open_descriptors
from tests.tls import client_tls, server_tls

pytestmark = pytest.mark.loops("uvloop", "asyncio")

FILM = random.Random(7).randbytes(12_000_000)
"""More than the buffers of both sockets take."""

PATIENT = ClientDeadlines(60.0, 1, 60.0)


@dataclass(slots=True)
class Served:
    """A server whose only answer is ``parts``; ``promised`` bytes if they are to be others. What
    the file does not give is read again of ``again``, or of the file.
    """

    film: Path
    parts: Sequence[bytes | tuple[int, int]] = ((0, len(FILM)),)
    promised: int | None = None
    again: bytes | None = None
    finished: list[Exchange] = field(default_factory=list)
    active: Exchanges = field(init=False)
    port: int = 0
    room: Room | None = None

    def __post_init__(self) -> None:
        self.active = Exchanges(PATIENT)
        self.active.observers = [self.finished.append]

    @property
    def waiting(self) -> int:
        """How many responses wait for room in their sockets."""
        assert self.room is not None
        return len(self.room._waiting)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        promised = self.promised
        if promised is None:
            promised = sum(len(p) if isinstance(p, bytes) else p[1] - p[0] for p in self.parts)
        plan = ResponsePlan(200, {}, (ByteSpan(0, promised),), promised)
        assert self.room is not None
        origin = cast("Origin[Part]", self)
        facts = ObjectFacts(ObjectKey("film"), promised, '"v"')
        response = RangeResponse(plan, request[EXCHANGE], self.room)
        await response.prepare(request)
        async with aclosing(self._slices()) as parts:
            begun = Begun(ByteSpan(0, promised), parts)
            await send_body(response.writer, plan.body, Representation(facts, origin, begun))
            await response.write_eof()
        return response

    @asynccontextmanager
    async def read(self, _: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[Part]]:
        async with aclosing(self._again(span)) as parts:
            yield parts

    async def _again(self, span: ByteSpan) -> AsyncGenerator[Part]:
        if self.again is not None:
            yield self.again[span.start : span.stop]
            return
        with self.film.open("rb") as file:
            yield FileSlice(file, span.start, span.length)

    async def _slices(self) -> AsyncGenerator[Part]:
        with self.film.open("rb") as file:
            for part in self.parts:
                if isinstance(part, bytes):
                    yield part
                else:
                    yield FileSlice(file, part[0], part[1] - part[0])


@asynccontextmanager
async def running(served: Served, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    app = web.Application(middlewares=[recorded(served.active), errors_as_json])
    served.room = Room()
    app.router.add_get("/", served.answer)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    # As small as TCP_NOTSENT_LOWAT makes what the server's sockets take.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    served.port = listening.getsockname()[1]
    try:
        await web.SockSite(runner, listening, ssl_context=tls).start()
        yield served
        await eventually(lambda: len(served.active) == 0)
        assert served.waiting == 0
    finally:
        await runner.cleanup()
        served.active.close()
        served.room.close()


@pytest.fixture(scope="session")
def film() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "film"
        path.write_bytes(FILM)
        yield path


@pytest.fixture
async def served(film: Path) -> AsyncIterator[Served]:
    async with running(Served(film)) as server:
        yield server


async def get(served: Served) -> tuple[bytes, bool]:
    async with await RawClient.connect(served.port) as client:
        response = await client.get("/")
        return response.body, response.complete


# --- what arrives


async def test_all_bytes_arrive_and_the_connection_stays(served: Served) -> None:
    served.parts = ((0, 1), (5, 3_000_000), (11_999_999, 12_000_000))
    async with await RawClient.connect(served.port) as client:
        for _ in range(3):
            response = await client.get("/")
            assert response.complete
            assert response.body == FILM[:1] + FILM[5:3_000_000] + FILM[-1:]
    await eventually(lambda: len(served.finished) == 3)
    assert {each.outcome for each in served.finished} == {Outcome.COMPLETE}
    assert {each.bytes_sent for each in served.finished} == {2_999_997}


async def test_bytes_and_slices_keep_their_order(served: Served) -> None:
    """Also where the transport still has bytes to send when a slice comes."""
    large = bytes(400_000)
    served.parts = (b"a", (0, 5_000_000), large, (5_000_000, 9_000_000), large, (7, 8), b"z")
    async with await RawClient.connect(served.port, receive_buffer=4096) as client:
        response = await client.get("/")
    expected = b"a" + FILM[:5_000_000] + large + FILM[5_000_000:9_000_000] + large
    assert response.body == expected + FILM[7:8] + b"z"


async def test_a_slow_reader_gets_all(served: Served) -> None:
    async with await RawClient.connect(served.port, receive_buffer=4096) as client:
        await client.ask("/")
        await eventually(lambda: served.waiting == 1)
        (exchange,) = served.active
        assert 0 < exchange.bytes_waiting < exchange.bytes_sent == len(FILM)
        response = await client.response()
    assert (response.complete, response.body == FILM) == (True, True)
    await eventually(lambda: len(served.finished) == 1)
    assert served.finished[0].bytes_waiting == 0


async def test_many_at_a_time(served: Served) -> None:
    served.parts = ((0, 2_000_000), (2_000_000, 4_000_000))
    bodies = await asyncio.gather(*(get(served) for _ in range(20)))
    assert all(body == FILM[:4_000_000] for body, _ in bodies)


# --- turns


async def test_others_have_their_turn(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the kernel takes all there is: after each turn's bytes."""
    calls: list[str] = []
    real = os.sendfile

    def sends(target: int, source: int, offset: int, count: int) -> int:
        calls.append("send")
        asyncio.get_running_loop().call_soon(lambda: calls.append("other"))
        return real(target, source, offset, count)

    monkeypatch.setattr(sendfile, "_TURN_BYTES", 1000)
    monkeypatch.setattr(sendfile, "_AT_ONCE_BYTES", 5000)
    monkeypatch.setattr(os, "sendfile", sends)
    served.parts = ((0, 10_000),)
    assert (await get(served))[0] == FILM[:10_000]
    await eventually(lambda: len(calls) == 20)
    assert [calls[index] for index in range(20)] == ["send", "other"] * 10


# --- files that fail


@pytest.mark.parametrize("tls", [False, True])
async def test_what_a_file_does_not_give_is_read_again(tmp_path: Path, tls: bool) -> None:
    short = tmp_path / "short"
    short.write_bytes(FILM[:1_000_000])
    served = Served(short, parts=((0, 3_000_000),), again=FILM)
    async with running(served, server_tls() if tls else None):
        if tls:
            assert await read_tls(served.port) == (FILM[:3_000_000], False)
        else:
            assert await get(served) == (FILM[:3_000_000], True)
        await eventually(lambda: len(served.finished) == 1)
        assert served.finished[0].outcome is Outcome.COMPLETE
        assert served.finished[0].bytes_sent == 3_000_000


async def test_the_disk_fails_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = os.sendfile

    def fails(target: int, source: int, offset: int, count: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(target, source, offset, count)

    monkeypatch.setattr(os, "sendfile", fails)
    assert await get(served) == (FILM, True)
    assert calls > 2


@pytest.mark.parametrize("tls", [False, True])
async def test_a_file_that_stays_short_aborts(tmp_path: Path, tls: bool) -> None:
    short = tmp_path / "short"
    short.write_bytes(FILM[:1_000_000])
    served = Served(short, parts=((0, 3_000_000),))
    async with running(served, server_tls() if tls else None):
        body, error = await read_tls(served.port) if tls else await read_plain(served.port)
        assert FILM[:1_000_000].startswith(body)
        assert error
        await eventually(lambda: len(served.finished) == 1)
        assert served.finished[0].outcome is Outcome.FAILED


async def read_plain(port: int) -> tuple[bytes, bool]:
    async with await RawClient.connect(port) as client:
        response = await client.get("/")
        await client.rest()
        return response.body, client.was_reset and not response.complete


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (errno.EIO, Outcome.FAILED),
        (errno.ETIMEDOUT, Outcome.CLIENT_GONE),
        (errno.EHOSTUNREACH, Outcome.CLIENT_GONE),
        (errno.EPIPE, Outcome.CLIENT_GONE),
    ],
)
async def test_the_disk_and_the_connection_are_told_apart(
    served: Served, monkeypatch: pytest.MonkeyPatch, number: int, outcome: Outcome
) -> None:
    def fails(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sendfile", fails)
    async with await RawClient.connect(served.port) as client:
        await client.ask("/")
        await client.rest()  # at most the header: it waits for the first bytes of the file
        await eventually(lambda: len(served.finished) == 1)
        assert served.finished[0].outcome is outcome
        assert client.was_reset


# --- clients that leave


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
async def test_a_client_that_leaves_while_its_socket_is_full(
    served: Served, leave: Callable[[RawClient], None]
) -> None:
    before = open_descriptors()
    for _ in range(3):
        client = await RawClient.connect(served.port, receive_buffer=4096)
        await client.ask("/")
        await eventually(lambda: served.waiting == 1)
        leave(client)
        await eventually(lambda: len(served.active) == 0 and served.waiting == 0)
    await eventually(lambda: open_descriptors() <= before)
    assert {each.outcome for each in served.finished} == {Outcome.CLIENT_GONE}


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset])
@pytest.mark.parametrize("received", [0, 1, 100_000, 3_000_000])
async def test_a_client_that_leaves_anywhere(
    served: Served, leave: Callable[[RawClient], None], received: int
) -> None:
    served.parts = tuple((at, at + 1_000_000) for at in range(0, 12_000_000, 1_000_000))
    client = await RawClient.connect(served.port)
    await client.ask("/")
    if received:
        await client.head()
    while received > 0:
        received -= len(await client.receive())
    leave(client)
    await eventually(lambda: len(served.finished) == 1)
    assert served.finished[0].outcome is Outcome.CLIENT_GONE


async def test_leaving_while_others_are_served_disturbs_nobody(served: Served) -> None:
    """Descriptors are used again at once, by those who come next."""

    async def comes_and_goes(number: int) -> None:
        client = await RawClient.connect(served.port, receive_buffer=4096)
        await client.ask("/")
        for _ in range(number % 4):
            await client.receive(20_000)
        (client.reset if number % 2 else client.close)()

    async def stays() -> None:
        assert (await get(served))[0] == FILM

    crowd = (comes_and_goes(number) for number in range(60))
    await asyncio.gather(*crowd, *(stays() for _ in range(6)))


# --- deadlines


async def test_a_client_that_takes_nothing_is_cut(served: Served) -> None:
    served.active.watch = ProgressWatch(ClientDeadlines(0.3, 1, 60.0))
    async with await RawClient.connect(served.port, receive_buffer=4096) as client:
        began = time.monotonic()
        await client.ask("/")
        await eventually(lambda: len(served.finished) == 1)
        assert 0.2 < time.monotonic() - began < 3
        assert served.finished[0].outcome is Outcome.CLIENT_TOO_SLOW
        assert not (await client.response()).complete


async def test_a_client_below_the_least_rate_is_cut(served: Served) -> None:
    served.active.watch = ProgressWatch(ClientDeadlines(60.0, 500_000_000, 0.2))
    async with await RawClient.connect(served.port, receive_buffer=4096) as client:
        await client.ask("/")
        began = time.monotonic()
        while not served.finished and await client.receive(2_000):
            await asyncio.sleep(0.01)
            assert time.monotonic() - began < 8
    await eventually(lambda: len(served.finished) == 1)
    assert served.finished[0].outcome is Outcome.CLIENT_TOO_SLOW


async def test_a_slow_client_that_takes_something_is_not_cut(served: Served) -> None:
    """Though all is one slice, which counts as sent from the first byte on."""
    served.active.watch = ProgressWatch(ClientDeadlines(0.4, 1, 60.0))
    async with await RawClient.connect(served.port, receive_buffer=65536) as client:
        await client.ask("/")
        await eventually(lambda: served.waiting == 1)
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            await client.receive(100_000)
            await asyncio.sleep(0.04)
            assert not served.finished, served.finished[0].outcome


async def test_nor_over_tls(film: Path) -> None:
    served = Served(film)
    served.active.watch = ProgressWatch(ClientDeadlines(0.4, 1, 60.0))
    async with running(served, server_tls()):
        reader, writer = await open_tls(served.port)
        await reader.readexactly(1000)
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            await reader.read(100_000)
            await asyncio.sleep(0.04)
            assert not served.finished, served.finished[0].outcome
        writer.transport.abort()


# --- TLS


async def open_tls(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has asked."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=client_tls(), server_hostname="", limit=65536
    )
    writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    return reader, writer


async def read_tls(port: int) -> tuple[bytes, bool]:
    """The body as far as it came, and whether the connection broke."""
    reader, writer = await open_tls(port)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    body = bytearray()
    try:
        while len(body) < length:
            data = await reader.read(1 << 20)
            if not data:
                return bytes(body), True
            body += data
    except ConnectionError:
        return bytes(body), True
    finally:
        writer.transport.abort()
    return bytes(body), False


async def test_over_tls_the_bytes_are_copied(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sendfile", None)
    served = Served(film, parts=(b"a", (0, 3_000_000), b"b", (9, 10)))
    async with running(served, server_tls()):
        assert await read_tls(served.port) == (b"a" + FILM[:3_000_000] + b"b" + FILM[9:10], False)


async def test_a_client_that_leaves_over_tls(film: Path) -> None:
    served = Served(film)
    async with running(served, server_tls()):
        reader, writer = await open_tls(served.port)
        await reader.readexactly(1000)
        writer.transport.abort()
        await eventually(lambda: len(served.finished) == 1)
        assert served.finished[0].outcome is Outcome.CLIENT_GONE


# --- room


@asynccontextmanager
async def a_room() -> AsyncIterator[Room]:
    room = Room()
    try:
        yield room
        assert room._waiting == {}
    finally:
        room.close()


def full_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of which the first can take no more."""
    here, there = socket.socketpair()
    here.setblocking(False)
    fill(here)
    return here, there


def fill(sock: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))


async def waits(room: Room, sock: socket.socket) -> asyncio.Task[None]:
    task = asyncio.create_task(room.wait(sock.fileno()))
    await asyncio.sleep(0.01)
    assert not task.done()
    return task


async def test_room_comes_when_the_other_end_reads() -> None:
    async with a_room() as room:
        here, there = full_pair()
        with here, there:
            for _ in range(3):
                waiting = await waits(room, here)
                there.recv(1 << 22)
                await asyncio.wait_for(waiting, 5)
                fill(here)


async def test_room_comes_when_the_other_end_is_gone() -> None:
    async with a_room() as room:
        here, there = full_pair()
        with here:
            waiting = await waits(room, here)
            there.close()
            await asyncio.wait_for(waiting, 5)


async def test_one_who_stops_waiting_leaves_nothing() -> None:
    async with a_room() as room:
        here, there = full_pair()
        with here, there:
            (await waits(room, here)).cancel()
            await asyncio.sleep(0)
            waiting = await waits(room, here)
            there.recv(1 << 22)
            await asyncio.wait_for(waiting, 5)


async def test_a_number_that_is_used_again_belongs_to_the_new_socket() -> None:
    async with a_room() as room:
        old, other = full_pair()
        number = old.fileno()
        first = await waits(room, old)
        old.close()
        other.close()
        here, there = full_pair()
        with here, there:
            assert here.fileno() == number
            second = await waits(room, here)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert not second.done()
            there.recv(1 << 22)
            await asyncio.wait_for(second, 5)


async def test_both_may_end_in_the_same_moment() -> None:
    async with a_room() as room:
        here, there = full_pair()
        with here, there:
            waiting = await waits(room, here)
            there.recv(1 << 22)
            room._wake()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            again = asyncio.create_task(room.wait(here.fileno()))
            await asyncio.wait_for(again, 5)
