"""aiobotocore's HTTP session with its holes closed.

Measured on the stock one: a request waits for a pool slot without end; redirects are followed,
so that an origin can make the server fetch any URL and pass its body off as the object; and a
response that fails to parse, in the session or later in botocore, leaks its connection, as
does one whose reader is cancelled before it was handed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

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
    """What aiobotocore uses of ``aiohttp.ClientSession``: no redirects, every response noted."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:
        response = await self._session.request(method, allow_redirects=False, **options)
        opened = _opened.get()
        if opened is not None:
            opened.append(response)
        return response


class HardenedSession(AIOHTTPSession):
    """One connection pool whose waits end, whose redirects do not happen, and which cannot leak.

    ``pool_wait_seconds`` bounds the wait for a free connection together with connecting; the
    admission in :mod:`rangeserver.origin.s3` normally answers long before.
    """

    pool_wait_seconds: float = 5.0

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
                        )
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


def hardened_session(pool_wait_seconds: float) -> type[HardenedSession]:
    """A session class with this deadline, for ``AioConfig(http_session_cls=...)``."""
    return type("HardenedSession", (HardenedSession,), {"pool_wait_seconds": pool_wait_seconds})
