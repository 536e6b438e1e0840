"""Slots for requests at the origin: as many as there are connections, and shared fairly.

A slot is held from before a request is sent until its body is done, and a body may last as long as
its client likes. So while others wait, slots are recalled: the body loses its connection, and is
continued later at its next byte. An idle slot is recalled at once, one in use only if its client
has more slots than the waiting one would have. No response is cut off for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rangeserver.errors import OriginBusy, OriginError, OriginRecalled
from rangeserver.metrics import OriginMetrics
from rangeserver.origin.base import ReadReport
from rangeserver.origin.fair_queue import FairQueue
from rangeserver.origin.recalling import Lent, Line, to_recall
from rangeserver.origin.translate import RETRY_AFTER
from rangeserver.protocol.client_address import client_of

BEGUN_SECONDS = 30.0
"""The longest wait of a body that has begun: it cannot be refused any more."""

IDLE_SECONDS = 1.0
"""A slot is idle if no byte was read for so long: a viewer below 2 Mbit/s, or a pause."""

TURN_SECONDS = 2.0
"""A slot in use is kept for so long at least. A recall loses the bytes that are on their way."""

_RECALL_PAUSE_SECONDS = 0.25
"""How often to look for slots to recall while others wait."""

_RECALLED_AT_ONCE = 32
"""The most slots that are recalled at a time."""


class Slot:
    """One slot, for requests of ``client``."""

    __slots__ = ("_slots", "client", "idle_since", "on_recall", "recalled", "since")

    def __init__(self, slots: Slots, client: str) -> None:
        self._slots = slots
        self.client = client
        self.since = time.monotonic()
        self.idle_since: float | None = None
        self.on_recall: Callable[[], None] | None = None
        """Closes the body and releases the slot. Without it, the slot is not recalled."""
        self.recalled = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read some bytes inside of the block; the slot is idle until the next time.

        Raises :class:`OriginRecalled` if the slot was recalled before they came.
        """
        self._raise_if_recalled()
        self.idle_since = None
        try:
            yield
        except OriginError:
            self._raise_if_recalled()
            raise
        self._raise_if_recalled()
        self.idle_since = time.monotonic()

    def release(self) -> None:
        """Release it; idempotent."""
        self._slots.release(self)

    def _raise_if_recalled(self) -> None:
        if self.recalled:
            msg = "its origin connection was needed for others"
            raise OriginRecalled(msg, headers=RETRY_AFTER) from None


class Slots:
    """``limit`` slots, and the queue for them."""

    def __init__(self, limit: int, wait_seconds: float, metrics: OriginMetrics) -> None:
        self.limit = limit
        self._wait_seconds = wait_seconds
        self._metrics = metrics
        self._held: dict[Slot, None] = {}
        self._queue: FairQueue[asyncio.Future[Slot]] = FairQueue()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_use(self) -> int:
        """How many slots are held."""
        return len(self._held)

    @property
    def full(self) -> bool:
        """Whether a request would have to wait."""
        return len(self._held) >= self.limit or bool(self._queue)

    async def acquire(self, report: ReadReport) -> Slot:
        """Take a slot for a response. Raises :class:`OriginBusy` after the longest wait."""
        client = client_of(report.client)
        if self.full:
            return await self._wait(client, begun=report.begun)
        return self._take(client)

    def release(self, slot: Slot) -> None:
        """Make a slot free, if it is not yet."""
        if slot not in self._held:
            return
        del self._held[slot]
        slot.on_recall = None  # which refers to the answer, and that to its slot
        self._metrics.in_use -= 1
        self._queue.give(slot.client)
        self._let_in()

    def _take(self, client: str) -> Slot:
        slot = Slot(self, client)
        self._held[slot] = None
        self._metrics.in_use += 1
        self._queue.take(client)
        return slot

    async def _wait(self, client: str, *, begun: bool) -> Slot:
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._queue.wait(client, turn, begun=begun)
        self._metrics.waiting += 1
        self._recall_some()
        try:
            async with asyncio.timeout(max(self._wait_seconds, BEGUN_SECONDS * begun)):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                turn.result().release()  # our turn came at the same moment
            else:
                self._queue.leave(client, turn)
            if isinstance(error, TimeoutError):
                msg = f"all {self.limit} origin connections are in use"
                raise OriginBusy(msg, headers=RETRY_AFTER) from None
            raise
        finally:
            self._metrics.waiting -= 1

    def _let_in(self) -> None:
        while len(self._held) < self.limit and (first := self._queue.first()) is not None:
            client, turn = first
            self._queue.leave(client, turn)
            if not turn.done():
                turn.set_result(self._take(client))

    def _recall_some(self) -> None:
        """Recall slots for those that wait, now and for as long as any do."""
        if self._timer is not None:
            return
        lines = (Line(*line) for line in self._queue.lines())
        for slot in to_recall(self._lent(), lines, self._queue.held, at_most=_RECALLED_AT_ONCE):
            self._recall(slot)
        if self._queue:
            self._timer = asyncio.get_running_loop().call_later(
                _RECALL_PAUSE_SECONDS, self._recall_more
            )

    def _recall_more(self) -> None:
        self._timer = None
        self._recall_some()

    def _lent(self) -> Iterator[Lent[Slot]]:
        now = time.monotonic()
        for slot in self._held:
            if slot.on_recall is None:
                continue
            if slot.idle_since is not None and now - slot.idle_since >= IDLE_SECONDS:
                yield Lent(slot, slot.client, slot.idle_since, idle=True)
            elif now - slot.since >= TURN_SECONDS:
                yield Lent(slot, slot.client, slot.since, idle=False)

    def _recall(self, slot: Slot) -> None:
        assert slot.on_recall is not None
        slot.recalled = True
        self._metrics.recalled()
        slot.on_recall()
