"""Whether a refusal is of one key or of all, which the answer to another key tells.

Crawlers ask for any key. Were each that the store refuses by its name a failure of the origin,
they could have a healthy server reported as broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

HOLDS_SECONDS = 2.0
"""How long one comparison counts: so often, whatever is refused, another key is asked for."""


class Comparison:
    """``ask`` asks for a key that no client chooses and tells whether the answer was a good one;
    ``clock`` is monotonic.
    """

    def __init__(self, ask: Callable[[], Awaitable[bool]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._asking = asyncio.Lock()
        self._holds_until = 0.0
        self._answered = False

    async def others_are_answered(self) -> bool:
        """Whether other keys are; asked once for all who want to know at a time."""
        async with self._asking:
            if self._clock() >= self._holds_until:
                self._answered = await self._ask()
                self._holds_until = self._clock() + HOLDS_SECONDS
            return self._answered
