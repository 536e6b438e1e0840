"""Shared set-up: the server on a free port, a raw-socket client, waiting for a condition."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from rangeserver.app import METRICS, OBJECTS, create_admin_app, create_app
from rangeserver.cache.cache import Cache
from rangeserver.cache.caching_origin import CachingOrigin
from rangeserver.cache.metadata import MetadataCache
from rangeserver.config import Config
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import Part
from rangeserver.origin.pool import Pool
from rangeserver.origin.resuming import ResumingOrigin
from rangeserver.origin.retrying import RetryPolicy
from rangeserver.origin.s3 import S3Origin
from rangeserver.origin.upstream import open_upstream
from rangeserver.process.connection_server import ConnectionServer
from rangeserver.process.monitoring import Monitoring
from rangeserver.process.server import open_sockets, serving
from rangeserver.process.tls import Tls, open_tls
from rangeserver.web.exchanges import EXCHANGES, ExchangeObserver, Exchanges
from rangeserver.web.sendfile import Room
from tests.fakes.s3 import FakeS3
from tests.heads import parse_head

DEADLINE_SECONDS = 10.0
"""For anything a test waits for; only a failing test ever takes that long."""


def config_for(
    fake: FakeS3,
    *,
    server: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
    ttl_seconds: float = 0.0,
    admin: bool = False,
) -> Config:
    """A configuration that serves ``fake`` on a free port, asks it for everything each time, once,
    and does not wait to drain.
    """
    return Config.model_validate(
        {
            "server": {"port": 0, "drain_seconds": 0, **(server or {})},
            # Its probe would be among the requests that tests count at the origin.
            "admin": {"enabled": admin, "port": 0},
            "cache": {
                "enabled": False,
                "ttl_seconds": ttl_seconds,
                "stale_while_revalidate_seconds": 0,
                "missing_seconds": 0,
                **(cache or {}),
            },
            "origin": {
                "bucket": fake.bucket,
                "endpoint_url": fake.endpoint_url,
                "addressing_style": "path",
                "max_attempts": 1,
                "max_resumes": 0,
                "hedge_percent": 0,
                **(origin or {}),
            },
        }
    )


async def eventually(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until ``condition`` holds; fail when it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.005)


def acquired_connections(pool: Pool) -> int:
    """The origin connections that a pool believes to be in use."""
    return sum(len(connector._acquired) for connector in pool.connectors)


def idle_connections(pool: Pool) -> int:
    """The origin connections that a pool keeps for later; those that the origin has closed stay
    in its books for a while, and are not counted.
    """
    kept = [idle for connector in pool.connectors for idle in connector._conns.values()]
    return sum(handler.is_connected() for idle in kept for handler, _ in idle)


def close_idle_connections(pool: Pool) -> None:
    """Let go of the origin connections that a pool keeps for later."""
    for connector in pool.connectors:
        for idle in connector._conns.values():
            for handler, _ in idle:
                handler.close()
        connector._conns.clear()


def pool_waiters(pool: Pool) -> int:
    """How many requests wait inside a pool for a connection."""
    return sum(len(queue) for connector in pool.connectors for queue in connector._waiters.values())


@dataclass(frozen=True, slots=True)
class OpenedOrigin:
    """An S3 origin with what leak tests look at."""

    origin: S3Origin

    @property
    def acquired(self) -> int:
        return acquired_connections(self.origin.upstream.pool)

    @property
    def idle(self) -> int:
        return idle_connections(self.origin.upstream.pool)

    @property
    def slots_in_use(self) -> int:
        return self.origin.upstream.slots.in_use


@asynccontextmanager
async def opened_origin(
    config: Config, metrics: OriginMetrics | None = None
) -> AsyncIterator[OpenedOrigin]:
    """The S3 origin over a real client; fails on leaving if it leaked a connection or a slot."""
    async with open_upstream(config.origin, metrics or OriginMetrics()) as upstream:
        opened = OpenedOrigin(S3Origin(upstream, config.origin))
        yield opened
        await eventually(lambda: opened.acquired == 0)
        assert opened.slots_in_use == 0


@asynccontextmanager
async def persistent_origin(config: Config, **policy: Any) -> AsyncIterator[ResumingOrigin]:
    """The S3 origin with retries as configured, but without pauses; ``policy`` overrides."""
    origin = config.origin
    rules = RetryPolicy(
        **{
            "max_attempts": origin.max_attempts,
            "max_resumes": origin.max_resumes,
            "min_pause_seconds": 0.0,
            "max_pause_seconds": 0.0,
            **policy,
        }
    )
    async with opened_origin(config) as opened:
        upstream = opened.origin.upstream
        yield ResumingOrigin(opened.origin, rules, upstream.deadlines, tokens=upstream.retry_tokens)


def open_descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


@dataclass(frozen=True, slots=True)
class RunningApp:
    """The server as it runs; ``port`` is where to connect, ``admin_port`` 0 if there is none."""

    port: int
    app: web.Application
    server: ConnectionServer
    admin_port: int
    tls: Tls | None

    @property
    def active(self) -> Exchanges:
        return self.app[EXCHANGES]

    @property
    def acquired(self) -> int:
        """Origin connections in use."""
        return acquired_connections(self.pool)

    @property
    def idle(self) -> int:
        """Origin connections kept for later."""
        return idle_connections(self.pool)

    @property
    def room(self) -> Room:
        """Where responses from files wait for room in their sockets."""
        return self.app[OBJECTS].room

    @property
    def pool(self) -> Pool:
        """The connections to the origin."""
        return self.s3.upstream.pool

    @property
    def s3(self) -> S3Origin:
        """The innermost origin."""
        resuming: object = self.facts.inner
        if isinstance(resuming, CachingOrigin):
            resuming = resuming.inner
        assert isinstance(resuming, ResumingOrigin)
        assert isinstance(resuming.inner, S3Origin)
        return resuming.inner

    @property
    def cache(self) -> Cache | None:
        """The cache, if there is one."""
        caching = self.facts.inner
        return caching.cache if isinstance(caching, CachingOrigin) else None

    @property
    def facts(self) -> MetadataCache[Part]:
        """The outermost origin."""
        found = self.app[OBJECTS].targets.mounts.find("")
        assert found is not None
        known = found[0].origin
        assert isinstance(known, MetadataCache)
        return known


@asynccontextmanager
async def running_app(
    config: Config, *, observers: Sequence[ExchangeObserver] = ()
) -> AsyncIterator[RunningApp]:
    """The whole server, as ``rangeserver serve`` runs it, in this loop."""
    app = create_app(config, observers=observers)
    sockets = open_sockets(config.server)
    port = sockets[0].getsockname()[1]
    monitoring, admin_port = None, 0
    if config.admin.enabled:
        admin_sockets = open_sockets(config.admin)
        admin_port = admin_sockets[0].getsockname()[1]
        loop_lagged = app[METRICS].loop_lagged
        monitoring = Monitoring(create_admin_app(app), admin_sockets, loop_lagged)
    tls = open_tls(config.server)
    async with serving(app, config.server, sockets, monitoring=monitoring, tls=tls) as server:
        yield RunningApp(port, app, server, admin_port, tls)


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A response as it came. ``complete``: every promised byte arrived."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    complete: bool


@dataclass(slots=True, eq=False)
class RawClient:
    """One connection with nothing between the test and the socket."""

    sock: socket.socket
    buffer: bytearray = field(default_factory=bytearray, repr=False)
    was_reset: bool = False

    @classmethod
    async def connect(
        cls,
        port: int,
        *,
        receive_buffer: int | None = None,
        sock: socket.socket | None = None,
        source: str = "",
    ) -> Self:
        """Connect, over ``sock`` if given, or from the address ``source``; a small
        ``receive_buffer`` makes a client that takes little.
        """
        sock = socket.socket() if sock is None else sock
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def ask(self, target: str, *, method: str = "GET", **headers: str) -> None:
        """Send a request; in the names of ``headers`` an underscore stands for a hyphen."""
        fields = {"Host": "test", **{key.replace("_", "-"): val for key, val in headers.items()}}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))

    async def get(self, target: str, *, method: str = "GET", **headers: str) -> RawResponse:
        """Ask, and read the response."""
        await self.ask(target, method=method, **headers)
        return await self.response(has_body=method != "HEAD")

    async def receive(self, at_most: int = 65536) -> bytes:
        """What comes next, ``b""`` at the end of the connection, however it ended."""
        if self.buffer:
            data = bytes(self.buffer[:at_most])
            del self.buffer[:at_most]
            return data
        return await self.receive_more(at_most)

    async def receive_more(self, at_most: int = 65536) -> bytes:
        """What comes next from the socket, ``b""`` at the end."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await asyncio.get_running_loop().sock_recv(self.sock, at_most)
        except ConnectionError:
            self.was_reset = True
            return b""

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read a response's status and fields, with lower-case names."""
        while b"\r\n\r\n" not in self.buffer:
            await self._fill()
        raw, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer[:] = rest
        head = parse_head(raw)
        return head.status, dict(head.fields)

    async def response(self, *, has_body: bool = True) -> RawResponse:
        """Read one response; what follows it stays for the next call."""
        status, headers = await self.head()
        assert "transfer-encoding" not in headers  # nobody here sends chunks to a client
        length = int(headers.get("content-length", "0")) if has_body and status != 304 else 0
        body = bytearray()
        while len(body) < length:
            data = await self.receive(min(length - len(body), 1 << 20))
            if not data:
                break
            body += data
        return RawResponse(status, headers, bytes(body), len(body) == length)

    async def rest(self) -> bytes:
        """All that still comes until the connection ends."""
        data = bytearray()
        while more := await self.receive():
            data += more
        return bytes(data)

    async def _fill(self) -> None:
        data = await self.receive_more()
        assert data, f"the connection ended inside a header: {bytes(self.buffer)!r}"
        self.buffer += data

    def close(self) -> None:
        """Close with a FIN (the kernel sends an RST if something was left unread)."""
        self.sock.close()

    def reset(self) -> None:
        """Close with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
