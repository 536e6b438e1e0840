"""The pool of connections to an origin, and aiobotocore's HTTP session with its holes closed.

Measured on the stock one: a request waits for a pool slot without end; redirects are followed,
so that an origin can make the server fetch any URL and pass its body off as the object; and a
response that fails to parse, in the session or later in botocore, leaks its connection, as
does one whose reader is cancelled before it was handed over. aiohttp repeats a request by itself
when a kept connection turns out to be closed, which would double every other budget.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from functools import partial
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from multidict import CIMultiDict

from rangeserver.metrics import OriginMetrics
from rangeserver.origin.connection import OriginConnection, OriginResponse
from rangeserver.origin.deadlines import given_up_for_lateness

_READ_BUFFER_BYTES = 0
"""aiohttp pauses at each part that it has read from the origin, until it is told to read on
(:meth:`rangeserver.origin.asking.Answer.read`). With its default it reads on until twice 256 KiB
are unread and one part more, which counts for each stalled client."""

_opened: ContextVar[list[aiohttp.ClientResponse] | None] = ContextVar("opened", default=None)


@contextmanager
def closed_on_failure() -> Iterator[None]:
    """Close every response that requests made in this context opened, if it ends in failure.

    Neither the garbage collector nor aiobotocore does: a response that nobody holds any more
    keeps its connection for ever.
    """
    responses: list[aiohttp.ClientResponse] = []
    token = _opened.set(responses)
    try:
        yield
    except BaseException:
        for response in responses:
            response.close()
        raise
    finally:
        _opened.reset(token)
        responses.clear()  # a connection that was opened meanwhile keeps the context


_fresh: ContextVar[bool] = ContextVar("fresh", default=False)


class over_a_new_connection:  # noqa: N801 (reads as what it does)
    """Let the requests of this context use no connection that was used before, if it is
    ``wanted`` here or outside.
    """

    __slots__ = ("_token", "_wanted")

    def __init__(self, *, wanted: bool = True) -> None:
        self._wanted = wanted

    def __enter__(self) -> None:
        self._token = _fresh.set(self._wanted or _fresh.get())

    def __exit__(self, *exception: object) -> None:
        _fresh.reset(self._token)


def is_over_a_new_connection() -> bool:
    """Whether the requests of this context use none that was used before."""
    return _fresh.get()


class Pool:
    """Every connection to one origin. No redirects; every attempt counted, every response noted.

    It also is what aiobotocore takes for an ``aiohttp.ClientSession``. ``pool_wait_seconds``
    bounds the wait for a connection together with connecting; the admission in
    :mod:`rangeserver.origin.slots` normally answers long before.
    """

    def __init__(self, pool_wait_seconds: float, metrics: OriginMetrics | None = None) -> None:
        self._pool_wait_seconds = pool_wait_seconds
        self._metrics = metrics or OriginMetrics()
        self._source: HardenedSession | None = None
        self._opening = asyncio.Lock()
        self._kept: aiohttp.ClientSession | None = None
        self._single: aiohttp.ClientSession | None = None

    @property
    def connectors(self) -> list[aiohttp.BaseConnector]:
        """What holds the connections, for those who count them."""
        sessions = (self._kept, self._single)
        return [each.connector for each in sessions if each is not None and each.connector]

    def session_class(self) -> type[HardenedSession]:
        """A session class that uses this pool, for ``AioConfig(http_session_cls=...)``."""
        return type("HardenedSession", (HardenedSession,), {"pool": self})

    async def request(
        self, method: str, url: Any, headers: CIMultiDict[str], **options: Any
    ) -> aiohttp.ClientResponse:
        """Send one request, once. Raises what aiohttp raises."""
        if _fresh.get():
            session = self._single or await self._open_single()
            headers["Connection"] = "close"
        else:
            session = self._kept or await self._open_kept()
        asked = time.monotonic()
        try:
            response = await session.request(
                method, url, headers=headers, allow_redirects=False, **options
            )
        except BaseException as error:
            self._metrics.unanswered(_failure(error))
            raise
        self._metrics.answered(_outcome(response.status), time.monotonic() - asked)
        opened = _opened.get()
        if opened is not None:
            opened.append(response)
        return response

    def attach(self, source: HardenedSession) -> None:
        """Take connections as ``source``, which knows the settings, makes them."""
        self._source = source

    async def close(self) -> None:
        """Close every connection."""
        for session in (self._kept, self._single):
            if session is not None:
                await session.close()
        self._kept = self._single = self._source = None

    async def _open_kept(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._kept is None:
                self._kept = await self._open()
            return self._kept

    async def _open_single(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._single is None:
                self._single = await self._open(once=True)
            return self._single

    async def _open(self, *, once: bool = False) -> aiohttp.ClientSession:
        """``once``: each of its connections serves one request."""
        stock: Any = copy(self._source)  # aiobotocore carries no types
        if stock is None:
            msg = "the origin session is closed"
            raise RuntimeError(msg)
        if once:
            stock._connector_args = {"force_close": True}  # noqa: SLF001 (our own subclass)
        deadlines: aiohttp.ClientTimeout = stock._timeout  # noqa: SLF001 (our own subclass)
        connector: Any = await stock._create_connector(None)  # noqa: SLF001 (our own subclass)
        # No public way says what a connection is, ...
        limit = stock._max_pool_connections  # noqa: SLF001 (our own subclass)
        connector._factory = partial(self._new_connection, limit)  # noqa: SLF001
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                connect=self._pool_wait_seconds + (deadlines.sock_connect or 0),
                sock_connect=deadlines.sock_connect,
                sock_read=deadlines.sock_read,
            ),
            response_class=OriginResponse,
            skip_auto_headers={"Content-Type"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
        )
        # ... nor that once is once.
        session._retry_connection = False  # noqa: SLF001
        return session

    def _new_connection(self, limit: int) -> OriginConnection:
        """One more, for which one that waits for a request may have to go: ``limit`` in all.

        Those of one host serve no other, and a request may want a new one, so that aiohttp would
        keep as many of each as it may use at a time.
        """
        connectors: list[Any] = self.connectors
        used = sum(len(each._acquired) for each in connectors)  # noqa: SLF001 (this one is in it)
        waiting = [kept for each in connectors for kept in each._conns.values() if kept]  # noqa: SLF001
        excess = used + sum(map(len, waiting)) - limit
        while excess > 0 and waiting:
            kept = min(waiting, key=_waiting_since)
            kept.popleft()[0].close()
            excess -= 1
            waiting = [each for each in waiting if each]
        return OriginConnection(asyncio.get_running_loop())


def _waiting_since(kept: Sequence[tuple[Any, float]]) -> float:
    return kept[0][1]


def _failure(error: BaseException) -> str:
    """What a request without an answer is counted as."""
    if isinstance(error, TimeoutError) or given_up_for_lateness(error):
        return "timeout"
    if isinstance(error, asyncio.CancelledError):
        return "abandoned"
    return "unreachable" if isinstance(error, aiohttp.ClientConnectionError) else "failed"


def _outcome(status: int) -> str:
    """What an answer is counted as."""
    if status < 300 or status == 304:
        return "ok"
    return _OUTCOMES.get(status) or ("refused" if status < 500 else "failed")


_OUTCOMES = {
    403: "denied",
    404: "not_found",
    408: "timeout",
    412: "changed",
    416: "changed",
    429: "throttled",
    503: "throttled",
    504: "timeout",
}


class HardenedSession(AIOHTTPSession):
    """aiobotocore's session, which makes the connections and parses answers; the pool sends."""

    pool: Pool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pool.attach(self)

    async def _get_session(self, proxy_url: str | None) -> Any:
        assert proxy_url is None, "no proxies are configured"
        return self.pool

    async def __aexit__(self, *exception: object) -> None:
        """Close the pool."""
        await self.pool.close()
        await super().__aexit__(*exception)  # type: ignore[no-untyped-call]
