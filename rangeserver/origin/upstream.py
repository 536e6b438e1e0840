"""One endpoint with one set of credentials: all that the buckets reached through it share.

A request takes a place, passes the circuit breaker, is sent, and may be sent a second time when
its first byte is late. What it ends in is noted here, whoever asked.
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
from rangeserver.origin.base import is_read_ahead
from rangeserver.origin.circuit import Circuit
from rangeserver.origin.client import open_client
from rangeserver.origin.credentials import KeptCredentials, kept_credentials
from rangeserver.origin.deadlines import Deadline, Deadlines, given_up_for_lateness
from rangeserver.origin.hedging import Lateness, Race
from rangeserver.origin.identity import ANONYMOUS
from rangeserver.origin.parameters import as_headers, standing_parameters
from rangeserver.origin.pool import (
    Pool,
    is_over_a_new_connection,
    over_a_new_connection,
)
from rangeserver.origin.retrying import RetryTokens
from rangeserver.origin.signing import PerObjectSender, PerRequestSender, RequestFields, Sender
from rangeserver.origin.slots import Slot, Slots


@asynccontextmanager
async def open_upstream(
    config: OriginConfig, metrics: OriginMetrics, credentials: KeptCredentials | None = None
) -> AsyncIterator[Upstream]:
    """The endpoint that ``config`` names, whatever bucket it names; closed on leaving.

    Without ``credentials`` they are those of AWS's chain, unless ``config`` wants none.

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
    """The credentials of whoever signs nothing."""


class Upstream:
    """Sends requests, each at most once but for hedging and renewed credentials."""

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
        self.circuit = Circuit(time.monotonic)
        self.retry_tokens = RetryTokens()
        self.deadlines = Deadlines(config.response_seconds)
        self._sender = sender
        self._credentials = credentials
        self._lateness = Lateness(config.hedge_percent, time.monotonic)
        metrics.watch_circuit(lambda: self.circuit.is_open)

    def whose(self) -> str:
        """Who asks: see :mod:`rangeserver.origin.identity`."""
        return ANONYMOUS if self._credentials is None else self._credentials.whose()

    async def request(self, ask: Ask) -> Answer:
        """The good answer to ``ask``. The caller closes it, which gives back its connection and its
        slot.

        Raises a subclass of :class:`~rangeserver.errors.OriginError`.
        """
        self.circuit.admit()
        slot = await self.slots.acquire()
        try:
            with Deadline(self.deadlines):
                return await self._first_answer(ask, slot)
        except TimeoutError:
            msg = f"no answer within {self.deadlines.seconds:g} s"
            raise OriginTimeout(msg) from None

    async def _first_answer(self, ask: Ask, slot: Slot) -> Answer:
        asked = time.monotonic()
        late_after = self._lateness.delay()
        if late_after is None:
            answer = await self._send(ask, slot)
        else:
            race = Race(lambda: self._second(ask), Answer.close)
            try:
                answer = await race.run(self._send(ask, slot), late_after)
            finally:
                if race.won_by_second is not None:
                    self.metrics.hedged("won" if race.won_by_second else "lost")
        self._lateness.observe(time.monotonic() - asked)
        return answer

    def _second(self, ask: Ask) -> Coroutine[None, None, Answer] | None:
        if self.slots.full or not self._lateness.afford():
            self.metrics.hedged("suppressed")
            return None
        return self._sent_again(ask)

    async def _sent_again(self, ask: Ask) -> Answer:
        slot = await self.slots.acquire()
        with over_a_new_connection():
            return await self._send(ask, slot)

    async def _send(self, ask: Ask, slot: Slot) -> Answer:
        """Send from a place that was taken, and that is given back if no answer comes of it."""
        # Whoever is to find out whether the origin is back must not ask a connection of before.
        with over_a_new_connection(wanted=self.circuit.is_open):
            try:
                answer = await self._with_valid_credentials(ask)
            except BaseException as error:
                slot.release()
                if isinstance(error, OriginError):
                    self._note(ask, error)
                elif given_up_for_lateness(error):
                    self._unanswered(ask, connected=True)
                raise
        self.circuit.answered()
        answer.slot = slot
        if ask.method == "GET":
            slot.take_back = answer.close
        return answer

    async def _with_valid_credentials(self, ask: Ask) -> Answer:
        if self._credentials is None:
            return await self._sender.send(ask)
        signed_with = self._credentials.current()
        try:
            return await self._sender.send(ask)
        except CredentialsExpired:
            if not await self._credentials.renew(signed_with):
                raise
            return await self._sender.send(ask)

    def _note(self, ask: Ask, error: OriginError) -> None:
        if isinstance(error, OriginThrottled):
            self._lateness.throttled()
        if isinstance(error, (OriginTimeout, OriginUnreachable)):
            # A connection that was kept and is closed tells of itself. Many of them may be closed
            # at once, by an origin that is well; the request is repeated over a new one.
            kept = not error.connecting and not is_over_a_new_connection()
            if isinstance(error, OriginTimeout) or not kept:
                self._unanswered(ask, connected=not error.connecting)
        else:
            self.circuit.answered()

    def _unanswered(self, ask: Ask, *, connected: bool) -> None:
        """Note it, unless nobody waits for it: one reader alone reads ahead with many requests."""
        if not is_read_ahead():
            self.circuit.unanswered(ask.key, connected=connected)
