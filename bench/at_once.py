"""Clients that ask for one whole object in the same moment, and read it to the end.

What is measured is when each client's first byte of the body came, so the load must not be what it
waits for: all are connected before the clock starts, and one that has its first byte stands back
behind those that have not. It blocks; run it in a thread.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.command import BenchError
from bench.slow_origin import PATTERN

ACCEPTED_SECONDS = 0.3
"""For servers to take over connections that the kernel has made."""

STUCK_SECONDS = 30.0
_FIRST_READ_BYTES = 16 * 1024
_READ_BYTES = 256 * 1024
_READS_A_TURN = 8
"""Between two looks at who has got a first byte: about a millisecond."""

_CHECK_EVERY = 20
"""Every so manyeth client compares its bytes with the origin's."""

_TWICE = PATTERN * 2


@dataclass(slots=True)
class Client:
    """One connection, and when (``time.perf_counter``) what happened on it."""

    sock: socket.socket
    checks: bool
    asked: float = 0.0
    first: float = 0.0
    last: float = 0.0
    size: int = -1
    received: int = 0
    header: bytearray = field(default_factory=bytearray)

    @property
    def first_byte_seconds(self) -> float:
        """From the request to the first byte of the body."""
        return self.first - self.asked

    @property
    def seconds(self) -> float:
        """From the request to the last byte."""
        return self.last - self.asked

    def begin(self, data: bytes, path: str) -> bool:
        """Take the first bytes; whether some of the body are among them."""
        if not data:
            raise _ended(path)
        self.header += data
        head, found, body = self.header.partition(b"\r\n\r\n")
        if not found:
            return False
        if self.size < 0:
            self.size = _length(bytes(head), path)
        if body:
            self.first = time.perf_counter()
            self.take(memoryview(body), path)
            self.header.clear()
        return bool(body)

    def take(self, data: memoryview, path: str) -> bool:
        """Count what came; whether that was all. Raises :class:`BenchError`."""
        if not data:
            raise _ended(path)
        if self.checks:
            offset = self.received % len(PATTERN)
            if bytes(data) != _TWICE[offset : offset + len(data)]:
                msg = f"wrong bytes of {path} after {self.received}"
                raise BenchError(msg)
        self.received += len(data)
        if self.received > self.size:
            msg = f"{self.received} bytes of {path}, which has {self.size}"
            raise BenchError(msg)
        if self.received == self.size:
            self.last = time.perf_counter()
        return self.received == self.size


def ask_at_once(ports: Sequence[int], path: str, clients: int) -> list[Client]:
    """Have ``clients`` ask for ``path``, at the ports in turn. Raises :class:`BenchError` if one
    does not get the whole of it.
    """
    with ExitStack() as stack:
        asking = []
        for number in range(clients):
            port = ports[number % len(ports)]
            try:
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            except OSError as error:
                msg = f"the server at port {port} cannot be reached: {error}"
                raise BenchError(msg) from error
            asking.append(Client(sock, checks=number % _CHECK_EVERY == 0))
        time.sleep(ACCEPTED_SECONDS)
        for client in asking:
            client.sock.setblocking(False)
        _ask(asking, f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        _read(asking, path)
    return asking


def _ask(clients: Sequence[Client], request: bytes) -> None:
    for client in clients:
        client.asked = time.perf_counter()
        client.sock.send(request)


def _read(clients: Sequence[Client], path: str) -> None:
    by_descriptor = {client.sock.fileno(): client for client in clients}
    left = len(clients)
    buffer = memoryview(bytearray(_READ_BYTES))
    with select.epoll() as waiting, select.epoll() as begun, select.epoll() as either:
        for descriptor in by_descriptor:
            waiting.register(descriptor, select.EPOLLIN)
        either.register(waiting.fileno(), select.EPOLLIN)
        either.register(begun.fileno(), select.EPOLLIN)
        while left:
            if not either.poll(STUCK_SECONDS):
                msg = f"{left} clients got nothing more of {path} for {STUCK_SECONDS:g} s"
                raise BenchError(msg)
            for descriptor, _ in waiting.poll(0):
                client = by_descriptor[descriptor]
                if client.begin(client.sock.recv(_FIRST_READ_BYTES), path):
                    waiting.unregister(descriptor)
                    if client.last:
                        left -= 1
                    else:
                        begun.register(descriptor, select.EPOLLIN)
            for descriptor, _ in begun.poll(0, _READS_A_TURN):
                client = by_descriptor[descriptor]
                if client.take(buffer[: client.sock.recv_into(buffer)], path):
                    begun.unregister(descriptor)
                    left -= 1


def _ended(path: str) -> BenchError:
    return BenchError(f"the server ended a connection in the midst of {path}")


def _length(head: bytes, path: str) -> int:
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if status.split(" ")[1:2] != ["200"] or not fields.get("content-length", "").isdigit():
        msg = f"{path} was answered {status!r} with a length of {fields.get('content-length')}"
        raise BenchError(msg)
    return int(fields["content-length"])
