"""The circuit breaker: an origin that does not answer gets no requests for a moment.

Otherwise each viewer would wait for the same deadline and get the same failure, and an origin that
tries to recover would be kept busy. So after some requests in a row without an answer the next ones
fail at once. After a pause one is let through to find out.
"""

from __future__ import annotations

from collections.abc import Callable

from rangeserver.errors import OriginSuspended

FAILURES_IN_A_ROW = 10
"""So many requests in a row without an answer open the circuit. An origin that resets every other
connection is still useful, and reaches it once in a thousand times."""

MIN_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 10.0
"""How long the circuit stays open: doubled each time that the request let through fails."""


class CircuitBreaker:
    """The circuit breaker of one endpoint; ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._last_key = ""
        self._pause = MIN_PAUSE_SECONDS
        self._retry_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether requests fail without being sent."""
        return self._retry_at is not None

    def admit(self) -> None:
        """Let a request pass, or raise :class:`OriginSuspended`."""
        if self._retry_at is None:
            return
        now = self._clock()
        if now < self._retry_at:
            left = self._retry_at - now
            msg = f"nothing answered lately; not asked for {left:.1f} s more"
            raise OriginSuspended(msg, headers={"Retry-After": str(int(left) + 1)})
        # This one finds out. Others fail until it has, or until another pause is over.
        self._retry_at = now + self._pause
        self._probing = True

    def answered(self) -> None:
        """An answer came, good or not."""
        self._failures = 0
        self._last_key = ""
        self._pause = MIN_PAUSE_SECONDS
        self._retry_at = None
        self._probing = False

    def unanswered(self, key: str, *, connected: bool) -> None:
        """A request for ``key`` ended without an answer.

        A connected origin that is silent may be so about one object. However often that is asked
        for, it counts once, so that one faulty object does not affect the others.
        """
        if connected and key == self._last_key:
            return
        self._last_key = key if connected else ""
        self._failures += 1
        if self._retry_at is None:
            if self._failures >= FAILURES_IN_A_ROW:
                self._retry_at = self._clock() + self._pause
        elif self._probing:  # otherwise it was sent before the circuit opened, and says nothing new
            self._probing = False
            self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)
            self._retry_at = self._clock() + self._pause
