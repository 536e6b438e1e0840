"""Whether what is kept of an object is current, without everybody waiting for a silent origin.

A check that is late goes on in the background, one for each object at a time. Until one is
answered, whoever comes for that object does not wait for it any more, and may have what is kept.
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

Check: TypeAlias = Callable[[], Coroutine[Any, Any, ObjectFacts]]
"""Asks the origin, and sees to what its answer means for what is kept."""


class Checks:
    """Waits ``patience_seconds`` for each; ``tasks`` are stopped with the server."""

    def __init__(self, tasks: MutableSet[asyncio.Task[Any]], patience_seconds: float) -> None:
        self._tasks = tasks
        self._patience = patience_seconds
        self._running: dict[ObjectKey, asyncio.Task[ObjectFacts | OriginError]] = {}
        self._late: OrderedDict[ObjectKey, None] = OrderedDict()
        """Objects whose last check was, if none has been answered since."""

    async def facts(self, key: ObjectKey, check: Check) -> ObjectFacts:
        """What the check of an object that runs says, or else this one. Raises what the origin
        said, or :class:`OriginTimeout` if it is late.
        """
        running = self._running.get(key) or self._begin(key, check)
        if key not in self._late:
            try:
                await asyncio.wait({running}, timeout=self._patience)
            except asyncio.CancelledError:
                running.cancel()  # of those who want the same, one alone comes here at a time
                raise
        if not running.done():
            self._is_late(key)
            msg = "a check is late, and goes on"
            raise OriginTimeout(msg)
        outcome = running.result()
        if isinstance(outcome, OriginError):
            raise outcome.again()
        return outcome

    def _begin(self, key: ObjectKey, check: Check) -> asyncio.Task[ObjectFacts | OriginError]:
        task = asyncio.get_running_loop().create_task(self._run(key, check))
        self._running[key] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, key: ObjectKey, check: Check) -> ObjectFacts | OriginError:
        outcome: ObjectFacts | OriginError | None = None
        try:
            with reporting(current_report().shared()):
                outcome = await check()
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
