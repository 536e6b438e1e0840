"""One endpoint with one set of credentials: what all buckets that are reached through it share.

A request passes the circuit breaker, takes a slot, is sent, and may be hedged when its first byte
is late. How it ends is noted here, for the circuit breaker and the hedging policy.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

from rangeserver.config import OriginConfig
from rangeserver.errors import (
    CredentialsExpired,
    OriginError,
    OriginThrottled,
    OriginTimeout,
    OriginUnreachable,
)
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.asking import Answer, Ask
from rangeserver.origin.attempt import Attempt
from rangeserver.origin.circuit import CircuitBreaker
from rangeserver.origin.client import open_client
from rangeserver.origin.credentials import KeptCredentials, kept_credentials
from rangeserver.origin.deadlines import Deadline, Deadlines
from rangeserver.origin.hedging import HedgedRequest, HedgePolicy
from rangeserver.origin.identity import ANONYMOUS
from rangeserver.origin.parameters import as_headers, standing_parameters
from rangeserver.origin.pool import Pool
from rangeserver.origin.retrying import RetryTokens
from rangeserver.origin.signing import PerObjectSender, PerRequestSender, RequestFields, Sender
from rangeserver.origin.slots import Slot, Slots


@asynccontextmanager
async def open_upstream(
    config: OriginConfig, metrics: OriginMetrics, credentials: KeptCredentials | None = None
) -> AsyncIterator[Upstream]:
    """The endpoint that ``config`` names, for any bucket; closed on leaving.

    Requests are signed with ``credentials``, by default those of AWS's chain, and not at all if
    ``config.anonymous``.

    Raises :class:`~rangeserver.errors.ConfigError` when AWS's configuration files or the settings
    cannot be used.
    """
    parameters = standing_parameters(config)
    fields = RequestFields(parameters, as_headers(parameters))
    pool = Pool(config.pool_wait_seconds, metrics)
    async with AsyncExitStack() as stack:
        if credentials is None and not config.anonymous:
            kept = kept_credentials(config.profile, region=config.region, metrics=metrics)
            credentials = await stack.enter_async_context(kept)
        client = await stack.enter_async_context(open_client(config, pool, credentials))
        sender: Sender = PerRequestSender(client, fields)
        if config.signing == "per-object":
            current = credentials.current if credentials is not None else _nobody
            sender = PerObjectSender(
                client, pool, current, sender, clock=time.monotonic, fields=fields
            )
        upstream = Upstream(sender, config, pool=pool, metrics=metrics, credentials=credentials)
        stack.callback(upstream.deadlines.close)
        yield upstream


def _nobody() -> None:
    """The credentials of anonymous requests."""


class Upstream:
    """Sends each request once, but for hedging and renewed credentials."""

    def __init__(
        self,
        sender: Sender,
        config: OriginConfig,
        *,
        pool: Pool,
        metrics: OriginMetrics,
        credentials: KeptCredentials | None = None,
    ) -> None:
        self.pool = pool
        self.metrics = metrics
        self.slots = Slots(config.max_connections, config.pool_wait_seconds, metrics)
        self.circuit = CircuitBreaker(time.monotonic)
        self.retry_tokens = RetryTokens()
        self.deadlines = Deadlines(config.response_seconds)
        self._sender = sender
        self._credentials = credentials
        self._hedging = HedgePolicy(config.hedge_percent, time.monotonic)
        metrics.watch_circuit(lambda: self.circuit.is_open)

    def whose(self) -> str:
        """Who asks: see :mod:`rangeserver.origin.identity`."""
        return ANONYMOUS if self._credentials is None else self._credentials.whose()

    async def request(self, ask: Ask, attempt: Attempt) -> Answer:
        """The good answer to ``ask``. The caller closes it, which frees its connection and slot.

        Raises a subclass of :class:`~rangeserver.errors.OriginError`.
        """
        self.circuit.admit()
        slot = await self.slots.acquire(attempt.report)
        try:
            with Deadline(self.deadlines, attempt.deadline) as deadline:
                return await self._first_answer(ask, attempt.within(deadline), slot)
        except TimeoutError:
            msg = f"no answer within {self.deadlines.seconds:g} s"
            raise OriginTimeout(msg) from None

    async def _first_answer(self, ask: Ask, attempt: Attempt, slot: Slot) -> Answer:
        asked = time.monotonic()
        late_after = self._hedging.delay()
        if late_after is None:
            answer = await self._send(ask, attempt, slot)
        else:
            hedged = HedgedRequest(lambda: self._second(ask, attempt), Answer.close)
            try:
                answer = await hedged.run(self._send(ask, attempt, slot), late_after)
            finally:
                if hedged.won_by_second is not None:
                    self.metrics.hedged("won" if hedged.won_by_second else "lost")
        self._hedging.observe(time.monotonic() - asked)
        return answer

    def _second(self, ask: Ask, attempt: Attempt) -> Coroutine[None, None, Answer] | None:
        if self.slots.full or not self._hedging.afford():
            self.metrics.hedged("suppressed")
            return None
        return self._send_second(ask, attempt.over_new_connection())

    async def _send_second(self, ask: Ask, attempt: Attempt) -> Answer:
        return await self._send(ask, attempt, await self.slots.acquire(attempt.report))

    async def _send(self, ask: Ask, attempt: Attempt, slot: Slot) -> Answer:
        """Send from a slot, which is freed if no answer comes of it."""
        if self.circuit.is_open:  # an old connection would not tell whether the origin is back
            attempt = attempt.over_new_connection()
        try:
            answer = await self._with_valid_credentials(ask, attempt)
        except BaseException as error:
            slot.release()
            self._note(ask, attempt, error)
            raise
        self.circuit.answered()
        answer.slot = slot
        if ask.method == "GET":
            slot.on_recall = answer.close
        return answer

    async def _with_valid_credentials(self, ask: Ask, attempt: Attempt) -> Answer:
        if self._credentials is None:
            return await self._sender.send(ask, attempt)
        signed_with = self._credentials.current()
        try:
            return await self._sender.send(ask, attempt)
        except CredentialsExpired:
            if not await self._credentials.renew(signed_with):
                raise
            return await self._sender.send(ask, attempt)

    def _note(self, ask: Ask, attempt: Attempt, error: BaseException) -> None:
        if isinstance(error, OriginThrottled):
            self._hedging.throttled()
        if isinstance(error, (OriginTimeout, OriginUnreachable)):
            # An idle connection that turns out to be closed says nothing about the origin, which
            # may close many at once and be well; the request is repeated over a new one.
            was_idle = not error.connecting and not attempt.new_connection
            if isinstance(error, OriginTimeout) or not was_idle:
                self._unanswered(ask, attempt, connected=not error.connecting)
        elif isinstance(error, OriginError):
            self.circuit.answered()
        elif attempt.timed_out(error):
            self._unanswered(ask, attempt, connected=True)

    def _unanswered(self, ask: Ask, attempt: Attempt, *, connected: bool) -> None:
        """Note it, unless it only reads ahead: a single reader does that with many requests."""
        if not attempt.report.ahead:
            self.circuit.unanswered(ask.key, connected=connected)
