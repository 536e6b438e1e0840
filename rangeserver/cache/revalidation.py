"""Revalidates cached objects, without all requests waiting for a silent origin.

A revalidation that is late continues in the background, one for each object at a time. Until one
succeeds, no request for that object waits for it any more, and stale facts may be used.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, MutableSet
from typing import Any, TypeAlias

from rangeserver import lru
from rangeserver.cache.metadata import MAX_OBJECTS
from rangeserver.errors import OriginBusy, OriginError, OriginTimeout, OriginUnreachable
from rangeserver.origin.base import current_report, reporting
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

_NO_ANSWER = (OriginBusy, OriginTimeout, OriginUnreachable)

Asking: TypeAlias = Callable[[], Coroutine[Any, Any, ObjectFacts]]
"""Asks the origin, and notes the answer in the cache."""


class Revalidations:
    """Waits ``patience_seconds`` for each; ``tasks`` are stopped with the server."""

    def __init__(self, tasks: MutableSet[asyncio.Task[Any]], patience_seconds: float) -> None:
        self._tasks = tasks
        self._patience = patience_seconds
        self._running: dict[ObjectKey, asyncio.Task[ObjectFacts | OriginError]] = {}
        self._late: OrderedDict[ObjectKey, None] = OrderedDict()
        """Objects whose last revalidation was late, if none has succeeded since."""

    async def facts(self, key: ObjectKey, asking: Asking) -> ObjectFacts:
        """The facts from the revalidation of an object that is running, or from a new one. Raises
        the origin's error, or :class:`OriginTimeout` if it is late.
        """
        running = self._running.get(key) or self._begin(key, asking)
        if key not in self._late:
            try:
                await asyncio.wait({running}, timeout=self._patience)
            except asyncio.CancelledError:
                running.cancel()  # no other request waits: lookups are single-flight
                raise
        if not running.done():
            self._is_late(key)
            msg = "a revalidation is late, and goes on"
            raise OriginTimeout(msg)
        outcome = running.result()
        if isinstance(outcome, OriginError):
            raise outcome.again()
        return outcome

    def _begin(self, key: ObjectKey, asking: Asking) -> asyncio.Task[ObjectFacts | OriginError]:
        task = asyncio.get_running_loop().create_task(self._run(key, asking))
        self._running[key] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, key: ObjectKey, asking: Asking) -> ObjectFacts | OriginError:
        outcome: ObjectFacts | OriginError | None = None
        try:
            with reporting(current_report().shared()):
                outcome = await asking()
        except OriginError as error:
            outcome = error.again()
        finally:
            del self._running[key]
            if isinstance(outcome, OriginTimeout):
                self._is_late(key)
            elif outcome is not None and not isinstance(outcome, _NO_ANSWER):
                self._late.pop(key, None)
        return outcome

    def _is_late(self, key: ObjectKey) -> None:
        lru.put(self._late, key, None, max_entries=MAX_OBJECTS)
