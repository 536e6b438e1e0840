"""Whether a refusal is about one key or about all: another key is requested to find out.

Crawlers ask for any key. If each key that the store refuses by its name counted as a failure of the
origin, they could make a healthy server report itself as broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

HOLDS_SECONDS = 2.0
"""How long a comparison is used: however much is refused, there is one in this time."""


class Comparison:
    """The last comparison; ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asking = asyncio.Lock()
        self._holds_until = 0.0
        self._answered = False

    async def others_are_answered(self, ask: Callable[[], Awaitable[bool]]) -> bool:
        """Whether other keys are answered. ``ask`` requests one that no client chooses, and returns
        whether the answer was good; callers at the same time share one such request.
        """
        async with self._asking:
            if self._clock() >= self._holds_until:
                self._answered = await ask()
                self._holds_until = self._clock() + HOLDS_SECONDS
            return self._answered
