"""Single-flight: one lookup at the origin for all requests that need the same facts at a time.

A lookup belongs to the server and not to the request that began it. It continues for as long as any
request waits, so that clients that come and leave one after another cost the origin one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Generic, TypeAlias

from rangeserver.errors import OriginBusy, OriginError
from rangeserver.origin.base import P, Representation, current_report, reporting

LINGER_SECONDS = 0.05
"""How long a lookup continues that no request waits for any more."""

Asking: TypeAlias = Callable[[], AbstractAsyncContextManager[Representation[P]]]
"""Asks the origin; the answer may bring a read that has begun."""

Outcome: TypeAlias = Representation[P] | OriginError | None
"""The object, or why there is none. ``None``: the lookup was stopped, so ask again."""


class Lookup(Generic[P]):
    """One lookup. ``settled`` is called once, as soon as there is an outcome.

    One ``in_background`` continues though no request waits for it.
    """

    def __init__(
        self,
        asking: Asking[P],
        settled: Callable[[Outcome[P]], None],
        *,
        in_background: bool = False,
    ) -> None:
        self._settled = settled
        self.in_background = in_background
        self._report = current_report().shared()
        self._waiting: set[asyncio.Future[Outcome[P]]] = set()
        self._begun: AsyncExitStack | None = None
        self._taker: asyncio.Future[Outcome[P]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.task = asyncio.get_running_loop().create_task(self._ask(asking))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Representation[P]]:
        """The object, for the request that began the lookup, which also gets the read that has
        begun. Raises the origin's error, or any other.
        """
        self._taker = asyncio.get_running_loop().create_future()
        try:
            outcome = await self._wait(self._taker)
            if outcome is None:
                msg = "the server stops"
                raise OriginBusy(msg)
            if isinstance(outcome, OriginError):
                raise outcome.again()
            yield outcome
        finally:
            self._taker = None
            if self._begun is not None:
                begun, self._begun = self._begun, None
                await begun.aclose()

    async def outcome(self) -> Outcome[P]:
        """The outcome, for all other requests."""
        return await self._wait(asyncio.get_running_loop().create_future())

    async def _wait(self, waiter: asyncio.Future[Outcome[P]]) -> Outcome[P]:
        self._waiting.add(waiter)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            outcome = await waiter
            current_report().join(self._report)
            return outcome
        finally:
            self._waiting.discard(waiter)
            del waiter  # an error that it holds would hold this frame
            if not self._waiting and not self.in_background and not self.task.done():
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(LINGER_SECONDS, self.task.cancel)

    async def _ask(self, asking: Asking[P]) -> None:
        outcome: Outcome[P] = None
        try:
            async with AsyncExitStack() as stack:
                with reporting(self._report):
                    outcome = await stack.enter_async_context(asking())
                if self._taker is not None:
                    self._begun = stack.pop_all()
        except OriginError as error:
            outcome = error.again()
        except Exception as error:  # noqa: BLE001 (raised to the request that asked)
            # A bug of ours is not the outcome for others.
            if self._taker is not None and not self._taker.done():
                self._taker.set_exception(error)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._settled(outcome)
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(outcome)
