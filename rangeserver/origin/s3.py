"""An S3 bucket as an :class:`~rangeserver.origin.base.Origin`.

Every read names the version it wants (``If-Match``) and every answer is checked, status,
entity tag, range and length, before its first byte is used: S3-compatible servers are known to
answer 200 to a range, to ignore If-Match, and to send an error document with status 200.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from rangeserver.config import OriginConfig
from rangeserver.errors import (
    AccessDenied,
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginBusy,
    OriginError,
    OriginProtocolError,
    OriginRefused,
)
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import Part
from rangeserver.origin.health import OriginHealth
from rangeserver.origin.session import answered_within, closed_on_failure
from rangeserver.origin.translate import RETRY_AFTER, body_errors, origin_errors
from rangeserver.progress import RateWindow
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import (
    ObjectFacts,
    ObjectKey,
    facts_from_headers,
    stored_coding,
)

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

READ_BYTES = 64 * 1024
"""Size of a part at most. aiohttp reads on from the origin once less than this is left unread, in
pieces of up to 256 KB: what a stalled client holds here is two of these and three parts."""

_BUCKET_PROVEN_SECONDS = 60.0
"""How long one answer about an object proves that the bucket exists."""

_PROBE = ByteSpan(0, 1)


class S3Origin:
    """Objects of one bucket, below one prefix, over one connection pool."""

    def __init__(
        self,
        client: S3Client,
        config: OriginConfig,
        *,
        metrics: OriginMetrics | None = None,
        health: OriginHealth | None = None,
    ) -> None:
        self._client = client
        self._metrics = metrics or OriginMetrics()
        self._health = health or OriginHealth()
        self._config = config
        self._slots = asyncio.Semaphore(config.max_connections)
        self._proven_until = 0.0

    async def describe(self, key: ObjectKey) -> ObjectFacts:
        """The facts of the current version, from one HeadObject."""
        try:
            facts = await self._described(key)
        except OriginError as error:
            self._failed(error)
            raise
        self._health.answered()
        return facts

    async def _described(self, key: ObjectKey) -> ObjectFacts:
        async with self._slot():
            try:
                headers = await self._head(key)
            except (ObjectNotFound, AccessDenied, OriginRefused) as error:
                return await self._explained(key, error)
        self._proven_until = time.monotonic() + _BUCKET_PROVEN_SECONDS
        return _facts(key, headers, _whole_number(headers.get("content-length")))

    def _failed(self, error: OriginError) -> None:
        if isinstance(error, OriginRefused):
            self._proven_until = 0.0  # that a HEAD finds nothing says nothing any more
        self._health.failed(error)

    @asynccontextmanager
    async def read(self, facts: ObjectFacts, span: ByteSpan) -> AsyncIterator[AsyncIterator[Part]]:
        """The bytes of ``span``, from one ranged GetObject pinned to the version by If-Match."""
        async with self._slot():
            try:
                answer = await self._get(facts.key, span, if_match=facts.etag)
            except OriginError as error:
                self._failed(error)
                raise
            body = answer["Body"]
            try:
                _check_answer(_headers(answer), _status(answer), facts, span)
                self._health.answered()
                async with aclosing(self._parts(body, span.length)) as parts:
                    yield parts
            finally:
                body.close()  # not drained: the rest of a film is not worth a connection

    async def _parts(self, body: Any, length: int) -> AsyncGenerator[Part]:
        """Exactly ``length`` bytes of a body, or an :class:`OriginBodyError`."""
        config = self._config
        rate = RateWindow(config.min_bytes_per_second, config.min_rate_window_seconds)
        left = length
        while left:
            asked = time.monotonic()
            with body_errors():
                part = await body.read(READ_BYTES)
            self._metrics.received(len(part))
            left -= len(part)
            if not part or left < 0:
                msg = f"origin body of {length} bytes " + ("ran over" if part else f"lacks {left}")
                raise OriginBodyError(msg)
            if rate.too_slow(len(part), time.monotonic() - asked) and left:
                msg = f"origin sent less than {config.min_bytes_per_second} bytes per second"
                raise OriginBodyError(msg)
            yield part

    async def _head(self, key: ObjectKey) -> Mapping[str, str]:
        with closed_on_failure(), origin_errors():
            async with answered_within(self._config.response_seconds):
                answer = await self._client.head_object(
                    Bucket=self._config.bucket, Key=self._config.prefix + key
                )
        if _status(answer) != 200:
            msg = f"HEAD answered {_status(answer)}, expected 200"
            raise OriginProtocolError(msg)
        return _headers(answer)

    async def _get(self, key: ObjectKey, span: ByteSpan, *, if_match: str | None = None) -> Any:
        pinned: dict[str, Any] = {"IfMatch": if_match} if if_match is not None else {}
        try:
            with closed_on_failure(), origin_errors():
                async with answered_within(self._config.response_seconds):
                    return await self._client.get_object(
                        Bucket=self._config.bucket,
                        Key=self._config.prefix + key,
                        Range=span.range_header(),
                        **pinned,
                    )
        except AccessDenied as error:
            if self._config.forbidden_as_not_found:
                raise ObjectNotFound(error.detail) from error
            raise

    async def _explained(self, key: ObjectKey, error: Exception) -> ObjectFacts:
        """Find out what a failed HEAD meant: its answer has no body, and so no S3 error code.

        NoSuchKey and NoSuchBucket, AccessDenied and a wrong signature look alike there. A 404 is
        taken at its word while the bucket is known to exist.
        """
        if isinstance(error, ObjectNotFound) and time.monotonic() < self._proven_until:
            raise error
        try:
            answer = await self._get(key, _PROBE)
        except ObjectNotFound as explained:
            self._proven_until = time.monotonic() + _BUCKET_PROVEN_SECONDS
            raise explained from error
        except ObjectChanged:  # 416: it exists after all, and is empty
            raise error from None
        answer["Body"].close()
        headers = _headers(answer)
        total = headers.get("content-range", "").rpartition("/")[2]
        return _facts(key, headers, _whole_number(total))

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the origin connections, or :class:`OriginBusy` after the deadline."""
        metrics = self._metrics
        metrics.waiting += 1
        try:
            async with asyncio.timeout(self._config.pool_wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            msg = f"all {self._config.max_connections} origin connections are in use"
            raise OriginBusy(msg, headers=RETRY_AFTER) from None
        finally:
            metrics.waiting -= 1
        metrics.in_use += 1
        try:
            yield
        finally:
            metrics.in_use -= 1
            self._slots.release()


def _headers(answer: Any) -> Mapping[str, str]:
    headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers


def _status(answer: Any) -> int:
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def _facts(key: ObjectKey, headers: Mapping[str, str], size: int | None) -> ObjectFacts:
    if size is None:
        msg = "the answer does not tell the object's size"
        raise OriginProtocolError(msg)
    try:
        return facts_from_headers(key, size, headers, now=int(time.time()))
    except ValueError as error:
        raise OriginProtocolError(str(error)) from error


def _whole_number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def _check_answer(
    headers: Mapping[str, str], status: int, facts: ObjectFacts, span: ByteSpan
) -> None:
    """Refuse an answer that is not, provably, these bytes of this version."""
    etag = headers.get("etag")
    if etag is not None and etag != facts.etag:
        msg = f"asked for version {facts.etag}, got {etag}"
        raise ObjectChanged(msg, headers=RETRY_AFTER)
    expected = {
        "etag": facts.etag,
        "content-length": str(span.length),
        "content-range": span.content_range(facts.size),
        "content-encoding": facts.content_encoding,
    }
    got = {name: headers.get(name) for name in expected}
    got["content-encoding"] = stored_coding(headers)
    if got["content-length"] is None:  # chunked: the bytes are counted anyway
        del expected["content-length"], got["content-length"]
    whole = status == 200 and span.length == facts.size
    if whole and got["content-range"] is None:
        expected["content-range"] = None
    if (status != 206 and not whole) or got != expected:
        msg = f"GET {span.range_header()}: answer {status} {got}, expected 206 {expected}"
        raise OriginProtocolError(msg)
