"""An S3 bucket as an :class:`~rangeserver.origin.base.Origin` that makes one attempt at everything.

Every read names the version it wants (``If-Match``), and every answer is checked before its first
byte is used.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing

from rangeserver.config import OriginConfig
from rangeserver.errors import (
    AccessDenied,
    AccessHidden,
    KeyRefused,
    ObjectChanged,
    ObjectNotFound,
    OriginBodyError,
    OriginError,
    OriginProtocolError,
    OriginRefused,
    RangeUnsatisfiable,
    UnclearRefusal,
)
from rangeserver.origin import answers
from rangeserver.origin.answers import Carried
from rangeserver.origin.asking import Answer, Ask
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.base import Begun, Representation
from rangeserver.origin.comparison import Comparison
from rangeserver.origin.health import PROBE_KEY, OriginHealth, is_proof
from rangeserver.origin.translate import RETRY_AFTER, body_errors
from rangeserver.origin.upstream import Upstream
from rangeserver.progress import RateWindow
from rangeserver.protocol.ranges import WHOLE, AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

_BUCKET_PROVEN_SECONDS = 60.0
"""How long an answer about an object proves that the bucket exists."""

_PROBE = "bytes=0-0"

_UNEXPLAINED = (ObjectNotFound, AccessDenied, OriginRefused)
"""What a HEAD cannot tell for certain."""


def _may_be_about_the_key(ask: Ask, error: OriginError) -> bool:
    """Whether only this key may be refused, and others answered.

    Stores that keep files, and proxies, turn two slashes into one: then the request is for another
    object than the signed one, is redirected, or is no S3 request any more.
    """
    if "//" in f"/{ask.key}" and isinstance(error, (OriginRefused, OriginProtocolError)):
        return True
    return isinstance(error, UnclearRefusal)


class S3Origin:
    """Objects of one bucket, below one prefix."""

    def __init__(
        self, upstream: Upstream, config: OriginConfig, *, health: OriginHealth | None = None
    ) -> None:
        self.upstream = upstream
        self._config = config
        self._health = health or OriginHealth()
        self._proven_until = 0.0
        self._comparison = Comparison(time.monotonic)

    async def describe(self, key: ObjectKey, attempt: Attempt | None = None) -> ObjectFacts:
        """The facts of the current version, from one HeadObject. As below, ``attempt`` is an
        anonymous one by default.
        """
        attempt = attempt or Attempt()
        ask = Ask("HEAD", *self._bucket_and_key(key))
        try:
            with closing(await self.upstream.request(ask, attempt)) as answer:
                facts = answers.described(key, answer)
        except OriginError as error:
            if not (isinstance(error, _UNEXPLAINED) or _may_be_about_the_key(ask, error)):
                self._failed(error)
                raise
            facts = await self._explained(key, attempt, error)
        else:
            self._proved()
        attempt.succeeded()
        return facts

    @asynccontextmanager
    async def open(
        self, key: ObjectKey, wanted: AskedRange, attempt: Attempt | None = None
    ) -> AsyncIterator[Representation[bytes]]:
        """Facts and bytes of the current version, from one GetObject if possible."""
        attempt = attempt or Attempt()
        async with AsyncExitStack() as stack:
            opened = await self._opened(stack, key, wanted, attempt)
            if opened is None:  # empty, or the answer leaves something open that a HEAD settles
                await stack.aclose()
                opened = Representation(await self.describe(key, attempt), self)
            yield opened

    async def _opened(
        self, stack: AsyncExitStack, key: ObjectKey, wanted: AskedRange, attempt: Attempt
    ) -> Representation[bytes] | None:
        asked = None if wanted == WHOLE else wanted
        header = asked.range_header() if asked is not None else None
        try:
            answer = await self._got(Ask("GET", *self._bucket_and_key(key), header), attempt)
        except RangeUnsatisfiable as error:
            if error.size and wanted.span(error.size).length <= 0:
                raise
            return None
        stack.callback(answer.close)
        carried = answers.opened_span(answer, asked)
        if carried is None:
            return None
        facts = answers.facts_of(key, answer.headers, carried.size)
        self._proved()
        parts = await stack.enter_async_context(aclosing(self._parts(answer, carried, attempt)))
        return Representation(facts, self, Begun(carried.span, parts))

    @asynccontextmanager
    async def read(
        self, facts: ObjectFacts, span: ByteSpan, attempt: Attempt | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of ``span``, from one ranged GetObject pinned to the version by If-Match."""
        attempt = attempt or Attempt()
        version = facts.version_id if self._config.use_version_ids else None
        named = self._bucket_and_key(facts.key)
        ask = Ask("GET", *named, span.range_header(), if_match=facts.etag, version_id=version)
        try:
            answer = await self._got(ask, attempt)
        except RangeUnsatisfiable as error:  # spans lie within the size: it has shrunk
            raise ObjectChanged(error.detail, headers=RETRY_AFTER) from error
        with closing(answer):
            carried = answers.check_read(answer, facts, span)
            self._proved()
            async with aclosing(self._parts(answer, carried, attempt)) as parts:
                yield parts

    def _bucket_and_key(self, key: ObjectKey) -> tuple[str, str]:
        return self._config.bucket, self._config.prefix + key

    async def _got(self, ask: Ask, attempt: Attempt) -> Answer:
        """The answer to a GET. The caller closes it."""
        try:
            return await self.upstream.request(ask, attempt)
        except OriginError as error:
            kind: type[OriginError] = type(error)
            if _may_be_about_the_key(ask, error) and await self._others_are_answered(attempt):
                kind = error.of_one_key if isinstance(error, UnclearRefusal) else KeyRefused
            else:
                self._failed(error)
            if issubclass(kind, AccessDenied) and self._config.forbidden_as_not_found:
                kind = AccessHidden
            if kind is type(error):
                raise
            raise kind(error.detail) from error

    async def _others_are_answered(self, attempt: Attempt) -> bool:
        return await self._comparison.others_are_answered(lambda: self._is_answered(attempt))

    async def _is_answered(self, attempt: Attempt) -> bool:
        """Whether a key that no client has chosen gets the answer of a good origin."""
        ask = Ask("GET", *self._bucket_and_key(PROBE_KEY), _PROBE)
        try:
            answer = await self.upstream.request(ask, attempt)
        except OriginError as error:
            self._failed(error)
            return is_proof(error)
        answer.close()
        self._proved()
        return True

    async def _explained(self, key: ObjectKey, attempt: Attempt, error: OriginError) -> ObjectFacts:
        """Find out what a failed HEAD meant: its answer has no body, and so no S3 error code.

        NoSuchKey and NoSuchBucket, AccessDenied and a wrong signature look alike there. A 404 is
        believed while the bucket is known to exist, unless the health is in doubt: the key of a
        probe is missing by design, and its answer has to prove something.
        """
        proven = time.monotonic() < self._proven_until and self._health.ready
        try:
            if isinstance(error, ObjectNotFound) and proven:
                raise error
            try:
                answer = await self._got(Ask("GET", *self._bucket_and_key(key), _PROBE), attempt)
            except ObjectNotFound as explained:
                raise explained from error
            except RangeUnsatisfiable:  # it exists after all, and is empty
                raise error from None
            with closing(answer):
                facts = answers.facts_of(key, answer.headers, answers.total_size(answer.headers))
        finally:
            del error  # it and this frame would keep each other alive, and all frames above
        self._proved()
        return facts

    def _proved(self) -> None:
        """An object was found: bucket and credentials are good."""
        self._proven_until = time.monotonic() + _BUCKET_PROVEN_SECONDS
        self._health.answered()

    def _failed(self, error: OriginError) -> None:
        if isinstance(error, ObjectNotFound) and is_proof(error):
            self._proven_until = time.monotonic() + _BUCKET_PROVEN_SECONDS
        elif isinstance(error, OriginRefused):
            self._proven_until = 0.0  # the 404 of a HEAD proves nothing any more
        self._health.failed(error)

    async def _parts(
        self, answer: Answer, carried: Carried, attempt: Attempt
    ) -> AsyncGenerator[bytes]:
        """Exactly the bytes asked for, or an :class:`OriginBodyError`. Surplus bytes are not waited
        for.

        Raises :class:`~rangeserver.errors.OriginRecalled` when its slot is recalled.
        """
        length = carried.span.length
        config, slot = self._config, answer.slot
        assert slot is not None
        received = self.upstream.metrics.received
        rate = RateWindow(config.min_bytes_per_second, config.min_rate_window_seconds)
        earnings = attempt.earnings(length)
        left = length
        while left:
            asked = time.monotonic()
            with slot.reading(), body_errors():
                part = await answer.read()
            received(len(part))
            if carried.surplus:
                part = part[:left]
            left -= len(part)
            if not part or left < 0:
                msg = f"origin body of {length} bytes " + ("ran over" if part else f"lacks {left}")
                raise OriginBodyError(msg)
            if rate.too_slow(len(part), time.monotonic() - asked) and left:
                msg = f"origin sent less than {config.min_bytes_per_second} bytes per second"
                raise OriginBodyError(msg)
            earnings.received(len(part))
            yield part
