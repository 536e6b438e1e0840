"""The pool of connections to an origin, and aiobotocore's HTTP session with its holes closed.

Measured on the stock one: a request waits for a connection without limit. Redirects are followed,
so an origin can make the server fetch any URL and send its body as the object. A response that
cannot be parsed, in the session or later in botocore, leaks its connection, as does one whose
reader is cancelled before it gets it. And aiohttp repeats a request by itself when an idle
connection turns out to be closed, which would double every budget of retries.
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
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.connection import OriginConnection, OriginResponse

_READ_BUFFER_BYTES = 0
"""aiohttp pauses after each part that it has read from the origin, until it is told to read on
(:meth:`rangeserver.origin.asking.Answer.read`). By default it would read until twice 256 KiB and
one part more are unread, for each stalled client."""


class _BotocoreCall:
    """A call of aiobotocore: the attempt it is made for, and the responses that it opened."""

    __slots__ = ("attempt", "responses")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.responses: list[aiohttp.ClientResponse] = []


_call: ContextVar[_BotocoreCall | None] = ContextVar("call", default=None)
"""The only way past aiobotocore, which stands between a call and the requests that it makes and has
no parameter for either direction. Everywhere else an attempt is a parameter."""


@contextmanager
def through_botocore(attempt: Attempt) -> Iterator[None]:
    """Make calls of aiobotocore for ``attempt``; if they fail, close every response they opened.

    Neither aiobotocore nor the garbage collector does: a response that nobody refers to keeps its
    connection for ever.
    """
    call = _BotocoreCall(attempt)
    token = _call.set(call)
    try:
        yield
    except BaseException:
        for response in call.responses:
            response.close()
        raise
    finally:
        _call.reset(token)
        call.responses.clear()  # a connection that was opened meanwhile keeps this context


class Pool:
    """All connections to one origin. Requests follow no redirects, and each is counted.

    ``pool_wait_seconds`` bounds the wait for a connection together with connecting; normally
    :mod:`rangeserver.origin.slots` refuses a request long before.
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
        """The connectors that hold the connections, to count them."""
        sessions = (self._kept, self._single)
        return [each.connector for each in sessions if each is not None and each.connector]

    def session_class(self) -> type[HardenedSession]:
        """A session class that uses this pool, for ``AioConfig(http_session_cls=...)``."""
        return type("HardenedSession", (HardenedSession,), {"pool": self})

    async def request(
        self, method: str, url: Any, headers: CIMultiDict[str], attempt: Attempt, **options: Any
    ) -> aiohttp.ClientResponse:
        """Send one request, once. The caller closes the response. Raises what aiohttp raises."""
        if attempt.new_connection:
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
            self._metrics.unanswered(_failure(error, attempt))
            raise
        self._metrics.answered(_outcome(response.status), time.monotonic() - asked)
        return response

    def attach(self, source: HardenedSession) -> None:
        """Make connections as ``source`` does, which has the settings."""
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
        """A session; ``once``: each of its connections serves one request."""
        stock: Any = copy(self._source)  # aiobotocore carries no types
        if stock is None:
            msg = "the origin session is closed"
            raise RuntimeError(msg)
        if once:
            stock._connector_args = {"force_close": True}  # noqa: SLF001 (our own subclass)
        deadlines: aiohttp.ClientTimeout = stock._timeout  # noqa: SLF001 (our own subclass)
        connector: Any = await stock._create_connector(None)  # noqa: SLF001 (our own subclass)
        # There is no public way to set the class of connections, ...
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
        # ... nor to turn off repeats.
        session._retry_connection = False  # noqa: SLF001
        return session

    def _new_connection(self, limit: int) -> OriginConnection:
        """A new connection. Beyond ``limit`` in all, the oldest idle ones are closed.

        aiohttp alone would keep up to ``limit`` idle ones of each session and host: those of one
        host are no use for another, and a request may want a new one.
        """
        connectors: list[Any] = self.connectors
        used = sum(len(each._acquired) for each in connectors)  # noqa: SLF001 (the new one included)
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


def _failure(error: BaseException, attempt: Attempt) -> str:
    """The metric label of a request without an answer."""
    if isinstance(error, TimeoutError) or attempt.timed_out(error):
        return "timeout"
    if isinstance(error, asyncio.CancelledError):
        return "abandoned"
    return "unreachable" if isinstance(error, aiohttp.ClientConnectionError) else "failed"


def _outcome(status: int) -> str:
    """The metric label of an answer."""
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
    """aiobotocore's session: it makes connections and parses answers, but the pool sends."""

    pool: Pool

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pool.attach(self)

    async def _get_session(self, proxy_url: str | None) -> Any:
        """What aiobotocore takes for an ``aiohttp.ClientSession``: it only calls ``request``."""
        assert proxy_url is None, "no proxies are configured"
        return self

    async def request(
        self, method: str, url: Any, headers: CIMultiDict[str], **options: Any
    ) -> aiohttp.ClientResponse:
        """Send a request of the call that is made now."""
        call = _call.get() or _BotocoreCall(Attempt())
        response = await self.pool.request(method, url, headers, call.attempt, **options)
        call.responses.append(response)
        return response

    async def __aexit__(self, *exception: object) -> None:
        """Close the pool."""
        await self.pool.close()
        await super().__aexit__(*exception)  # type: ignore[no-untyped-call]
