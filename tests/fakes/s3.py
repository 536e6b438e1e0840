"""An S3 origin of our own that misbehaves on request.

It serves one bucket in path style over raw streams, so that it can break the wire at any byte,
and keeps a record of every request and every open connection. Faults are in
:mod:`tests.fakes.faults`. Nothing here sleeps for luck: a stalled answer waits for
:meth:`FakeS3.release`, for its peer to leave, or for the end of the fake.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote

from tests.fakes.faults import BEFORE_HEADER, Answer, Fault, Framing, error_answer
from tests.fakes.ports import reserve
from tests.fakes.wire import end, framed, span_of


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of one object."""

    body: bytes = field(repr=False)
    etag: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request as it came; ``path`` is raw, ``key`` decoded once, header names lower case."""

    method: str
    path: str
    key: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Rule:
    fault: Fault
    key: str | None
    method: str | None
    skip: int
    times: int | None

    def applies(self, request: SeenRequest) -> bool:
        if self.key not in {None, request.key} or self.method not in {None, request.method}:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True, eq=False)
class FakeS3:
    """The origin; use as an asynchronous context manager."""

    bucket: str = "films"
    host: str = "127.0.0.1"
    keep_alive_seconds: float | None = None
    """Close a connection that has been idle for this long after an answer."""
    listener: socket.socket | None = None
    """Listen on this bound socket, of another network namespace perhaps."""
    tls: ssl.SSLContext | None = None
    """Speak TLS. Then a cut comes only about where asked."""
    versioned: bool = False
    """Keep what is replaced or deleted; it is read by its version id."""
    requests: list[SeenRequest] = field(default_factory=list)
    allows: Callable[[SeenRequest], bool] = lambda _: True
    """What is answered at all; else AccessDenied."""
    on_request: Callable[[SeenRequest], None] | None = None
    sent: Counter[str] = field(default_factory=Counter)
    """Body bytes sent of each key, but for those of a HEAD's answer, which are none."""
    stalled: int = 0
    port: int = 0
    _objects: dict[str, StoredObject] = field(default_factory=dict)
    _versions: dict[tuple[str, str], StoredObject] = field(default_factory=dict)
    _rules: list[_Rule] = field(default_factory=list)
    _connections: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)
    _stray: dict[asyncio.StreamWriter, bytes] = field(default_factory=dict)
    _go_on: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _reserved: socket.socket | None = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        await self.refuse()
        if self._reserved is not None:
            self._reserved.close()

    async def listen(self) -> None:
        """Take connections, on the port of before if there was one."""
        if self.listener is None and not self.port:
            self._reserved = reserve(self.host)
            self.port = self._reserved.getsockname()[1]
        where: dict[str, Any] = {"host": self.host, "port": self.port}
        if self.listener is not None:
            where = {"sock": self.listener}
        where["ssl"] = self.tls
        self._server = await asyncio.start_server(self._serve, backlog=1024, **where)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Drop all connections and take no more."""
        assert self._server is not None
        self._server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._connections)
        await self._server.wait_closed()

    @property
    def endpoint_url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def seen(self, method: str) -> list[SeenRequest]:
        """The requests that came with this method."""
        return [request for request in self.requests if request.method == method]

    def put(self, key: str, body: bytes, *, etag: str | None = None, **headers: str) -> None:
        """Store an object; in the names of ``headers`` an underscore stands for a hyphen."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if etag is None:
            etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        if self.versioned:
            named["x-amz-version-id"] = f"v{len(self._versions)}"
        self._objects[key] = stored = StoredObject(body, etag, named)
        if self.versioned:
            self._versions[key, named["x-amz-version-id"]] = stored

    @property
    def keys(self) -> Collection[str]:
        """Of all objects."""
        return self._objects.keys()

    def etag(self, key: str) -> str:
        return self._objects[key].etag

    def body(self, key: str) -> bytes:
        return self._objects[key].body

    def delete(self, key: str) -> None:
        del self._objects[key]

    def misbehave(
        self,
        fault: Fault,
        *,
        key: str | None = None,
        method: str | None = "GET",
        skip: int = 0,
        times: int | None = None,
    ) -> None:
        """Apply ``fault`` to answers that match, after ``skip`` good ones, ``times`` times."""
        self._rules.append(_Rule(fault, key, method, skip, times))

    def behave(self) -> None:
        """Forget all faults."""
        self._rules.clear()

    def release(self) -> None:
        """Let stalled answers go on; later stalls pass at once."""
        self._go_on.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._closing.is_set():
            writer.transport.abort()
            return
        self._connections[task] = writer
        # Then drain() waits until all is with the kernel, and a cut comes just where asked.
        if self.tls is None:  # asyncio's TLS would wait for ever
            writer.transport.set_write_buffer_limits(0)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                patience = None  # for the first request: it was not idle yet
                while await self._exchange(reader, writer, patience):
                    patience = self.keep_alive_seconds
        finally:
            writer.close()
            self._stray.pop(writer, None)
            del self._connections[task]

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float | None
    ) -> bool:
        """Answer one request that comes within ``patience``; whether the connection stays."""
        async with asyncio.timeout(patience):
            raw = await reader.readuntil(b"\r\n\r\n")
        head = raw.decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        lines = (line.partition(":") for line in head[1:] if line)
        request = SeenRequest(
            method=method,
            path=target,
            key=unquote(target.partition("?")[0], errors="strict").removeprefix(f"/{self.bucket}/"),
            headers={name.lower(): value.strip() for name, _, value in lines},
        )
        self.requests.append(request)
        if self.on_request is not None:
            self.on_request(request)
        answer = self._answer(request)
        for rule in self._rules:
            if rule.applies(request):
                answer = rule.fault(answer)
                break
        if stray := self._stray.pop(writer, b""):
            writer.write(stray)
        stays = await self._send(answer, request, reader, writer)
        if answer.stray_before_next:
            self._stray[writer] = answer.stray
        elif answer.stray and not writer.transport.is_closing():
            writer.write(answer.stray)
        return stays

    def _answer(self, request: SeenRequest) -> Answer:
        """What S3 would answer."""
        stored = self._objects.get(request.key)
        asked = parse_qs(request.path.partition("?")[2]).get("versionId")
        if asked is not None:
            stored = self._versions.get((request.key, asked[0]))
        if not request.path.startswith(f"/{self.bucket}/"):
            return error_answer(404, "NoSuchBucket")
        if not self.allows(request):
            return error_answer(403, "AccessDenied")
        if stored is None:
            return error_answer(404, "NoSuchKey" if asked is None else "NoSuchVersion")
        if request.headers.get("if-match", stored.etag) != stored.etag:
            return error_answer(412, "PreconditionFailed")
        size = len(stored.body)
        headers = {
            "ETag": stored.etag,
            "Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT",
            "Accept-Ranges": "bytes",
            "Content-Type": "video/mp4",
            "Server": "AmazonS3",
            **stored.headers,
        }
        status, start, stop = 200, 0, size
        if "range" in request.headers and request.method == "GET":
            status, (start, stop) = 206, span_of(request.headers["range"], size)
            if start >= stop:
                refusal = error_answer(416, "InvalidRange")
                return refusal.with_header("Content-Range", f"bytes */{size}")
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        headers["Content-Length"] = str(stop - start)
        return Answer(status, tuple(headers.items()), stored.body[start:stop], stored.body)

    async def _send(
        self,
        answer: Answer,
        request: SeenRequest,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        if answer.late_seconds:
            await self._pause(answer.late_seconds)
        if answer.stall_at == BEFORE_HEADER:
            await self._stall(reader)
        if answer.end_at == BEFORE_HEADER:
            return end(answer.ending, writer)
        writer.write(answer.head())
        body = b"" if request.method == "HEAD" else answer.body[: answer.end_at]
        stall_at = answer.stall_at if answer.stall_at is not None else len(body) + 1
        step = answer.drip_bytes or len(body) or 1
        offset = 0
        while True:
            await writer.drain()
            if offset == stall_at:
                await self._stall(reader)
            if offset == len(body):
                break
            stop = min(offset + step, len(body), stall_at if offset < stall_at else len(body))
            writer.write(framed(body[offset:stop], answer.framing))
            self.sent[request.key] += stop - offset
            offset = stop
            if answer.drip_bytes:
                await self._pause(answer.drip_seconds)
        if answer.end_at is not None:
            return end(answer.ending, writer)
        if answer.framing is Framing.CHUNKED and request.method != "HEAD":
            writer.write(b"0\r\n\r\n")
        return answer.framing is not Framing.UNTIL_CLOSE

    async def _stall(self, reader: asyncio.StreamReader) -> None:
        self.stalled += 1
        waits = [
            asyncio.ensure_future(reader.read(1)),
            asyncio.ensure_future(self._go_on.wait()),
            asyncio.ensure_future(self._closing.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stalled -= 1
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if not self._go_on.is_set():
            raise ConnectionAbortedError

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
                raise ConnectionAbortedError
