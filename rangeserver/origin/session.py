"""aiobotocore's HTTP session with its holes closed.

Measured on the stock one: a request waits for a pool slot without end; redirects are followed,
so that an origin can make the server fetch any URL and pass its body off as the object; and a
response that fails to parse, in the session or later in botocore, leaks its connection, as
does one whose reader is cancelled before it was handed over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

from rangeserver.metrics import OriginMetrics

_READ_BUFFER_BYTES = 64 * 1024
"""aiohttp reads on from the origin once less than this is unread; its default is four times as
much, and counts for each stalled client."""

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


_deadline: ContextVar[asyncio.Timeout | None] = ContextVar("deadline", default=None)


@asynccontextmanager
async def answered_within(seconds: float) -> AsyncIterator[None]:
    """``asyncio.timeout``, known to the session: a request given up because of it is counted as
    one that took too long, others as those of clients that left.
    """
    async with asyncio.timeout(seconds) as deadline:
        token = _deadline.set(deadline)
        try:
            yield
        finally:
            _deadline.reset(token)


class _ReadableResponse(aiohttp.ClientResponse):
    """A response that hides header lines which are not UTF-8, instead of failing on them."""

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The header lines that can be read as text; the session decodes every one."""
        return tuple(line for line in super().raw_headers if _is_utf8(line))


def _is_utf8(line: tuple[bytes, bytes]) -> bool:
    try:
        line[0].decode()
        line[1].decode()
    except UnicodeDecodeError:
        return False
    return True


class _GuardedSession:
    """What aiobotocore uses of ``aiohttp.ClientSession``: no redirects, every response noted, and
    every attempt counted, for botocore repeats some of its own accord.
    """

    def __init__(self, session: aiohttp.ClientSession, metrics: OriginMetrics) -> None:
        self._session = session
        self._metrics = metrics

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:
        asked = time.monotonic()
        try:
            response = await self._session.request(method, allow_redirects=False, **options)
        except BaseException as error:
            self._metrics.unanswered(_failure(error))
            raise
        self._metrics.answered(_outcome(response.status), time.monotonic() - asked)
        opened = _opened.get()
        if opened is not None:
            opened.append(response)
        return response


def _failure(error: BaseException) -> str:
    """What a request without an answer is counted as."""
    if isinstance(error, asyncio.CancelledError):
        deadline = _deadline.get()
        return "timeout" if deadline is not None and deadline.expired() else "abandoned"
    if isinstance(error, TimeoutError):
        return "timeout"
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
    """One connection pool whose waits end, whose redirects do not happen, and which cannot leak.

    ``pool_wait_seconds`` bounds the wait for a free connection together with connecting; the
    admission in :mod:`rangeserver.origin.s3` normally answers long before.
    """

    pool_wait_seconds: float = 5.0
    metrics: OriginMetrics | None = None

    async def _get_session(self, proxy_url: str | None) -> Any:
        sessions: dict[str | None, Any] | None = self._sessions
        if sessions is None:
            msg = "the origin session is closed"
            raise RuntimeError(msg)
        session = sessions.get(proxy_url)
        if session is None:
            async with self._sessions_lock:
                session = sessions.get(proxy_url)
                if session is None:
                    session = sessions[proxy_url] = _GuardedSession(
                        await self._exit_stack.enter_async_context(
                            await self._open_session(proxy_url)
                        ),
                        self.metrics or OriginMetrics(),
                    )
        return session

    async def _open_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        stock: Any = self  # aiobotocore carries no types
        deadlines: aiohttp.ClientTimeout = stock._timeout  # noqa: SLF001 (our own base class)
        return aiohttp.ClientSession(
            connector=await stock._create_connector(proxy_url),  # noqa: SLF001 (our own base class)
            timeout=aiohttp.ClientTimeout(
                connect=self.pool_wait_seconds + (deadlines.sock_connect or 0),
                sock_connect=deadlines.sock_connect,
                sock_read=deadlines.sock_read,
            ),
            response_class=_ReadableResponse,
            skip_auto_headers={"CONTENT-TYPE"},
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
        )


def hardened_session(
    pool_wait_seconds: float, metrics: OriginMetrics | None = None
) -> type[HardenedSession]:
    """A session class with this deadline, for ``AioConfig(http_session_cls=...)``."""
    own = {"pool_wait_seconds": pool_wait_seconds, "metrics": metrics}
    return type("HardenedSession", (HardenedSession,), own)
