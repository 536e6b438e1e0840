"""How a fault is repeated, and the ways to ask that many cases share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

from rangeserver.origin.retrying import Backoff
from tests.fakes.faults import Fault
from tests.faults.leaks import PER_ROUND

if TYPE_CHECKING:
    from tests.faults.invariants import Watch

W = TypeVar("W")

Once = Callable[[W, str], Awaitable[object]]
"""Meets the fault once, at an object with this key that nobody else is asking for."""

FaultFor = Callable[[str], Fault]
"""Makes the fault of one object."""


@dataclass(frozen=True, slots=True)
class Repetition(Generic[W]):
    """What is done over and over when a case is over."""

    once: Once[W]
    fault: FaultFor | None = None
    """Of the objects that are asked for; none if ``once`` or ``during`` sees to it."""
    at_once: int = 8
    """How many at the same time; all of a round where each waits for a deadline."""
    during: AbstractAsyncContextManager[object] | None = None
    """A fault of something else than an object."""
    origin: Mapping[str, Any] | None = None
    """Settings, such as shorter deadlines, of a server of its own to do it with."""
    keeps_circuit_closed: bool = False
    """Silence would open it, and then nobody would meet the fault."""
    others_are_served: bool = True
    """Whether the fault leaves other objects alone."""

    async def times(self, watch: W, key: str, before: Callable[[str], object]) -> None:
        """What one of those who ask at the same time has to do in a round, with what is to be done
        ``before`` each time.
        """
        for _ in range(PER_ROUND // self.at_once):
            before(key)
            await self.once(watch, key)

    @asynccontextmanager
    async def conditions(self) -> AsyncIterator[None]:
        """What is to be so while it is done; also that nobody waits long for another attempt."""
        async with AsyncExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            pause = Backoff.next
            patch.setattr(Backoff, "next", lambda *of, **how: min(pause(*of, **how), 0.01))
            if self.keeps_circuit_closed:
                patch.setattr("rangeserver.origin.circuit.FAILURES_IN_A_ROW", 10**6)
            if self.during is not None:
                await stack.enter_async_context(self.during)
            yield


FEW_ATTEMPTS = {"max_attempts": 1, "max_resumes": 1}
STALLING = {**FEW_ATTEMPTS, "idle_seconds": 0.25}
SILENT = {**FEW_ATTEMPTS, "response_seconds": 0.3}
"""For what is repeated in a server of its own because of pauses and deadlines. None is shorter
than it has to be: good answers are held to them as well, on a busy machine.
"""

ALL_AT_ONCE: dict[str, Any] = {"origin": FEW_ATTEMPTS, "at_once": PER_ROUND}


async def served(watch: Watch, key: str) -> None:
    """Ask for a part, and get it."""
    received = await watch.get(f"/{key}", goes_on=False, Range="bytes=10-1109")
    assert (received.status, received.complete) == (206, True)


async def served_by_head(watch: Watch, key: str) -> None:
    """Ask for the fields alone, and get them."""
    assert (await watch.get(f"/{key}", method="HEAD", goes_on=False)).status == 200


async def aborted(watch: Watch, key: str) -> None:
    """Ask for the whole, and be cut off in the middle."""
    received = await watch.get(f"/{key}", goes_on=False)
    assert (received.status, received.complete) == (200, False)


def refused(status: int, code: str, *, method: str = "GET") -> Once[Watch]:
    """Ask for a part, and be refused."""

    async def once(watch: Watch, key: str) -> None:
        received = await watch.get(f"/{key}", method=method, goes_on=False, Range="bytes=10-1109")
        assert received.status == status
        assert method == "HEAD" or received.error_code == code

    return once
