"""The circuit breaker: an origin that does not answer is left alone for a moment.

Waiting out its deadlines would cost every viewer the same time for the same failure, and would
keep an origin busy that is trying to come back. So after some requests in a row without an
answer the next ones fail at once; after a pause one of them is let through to find out.
"""

from __future__ import annotations

from collections.abc import Callable

from rangeserver.errors import OriginSuspended

FAILURES_IN_A_ROW = 10
"""Requests that nothing answered, with no answer between them, that open the circuit. An origin
that resets every other connection does that once in a thousand times, and is still of use."""

MIN_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 10.0
"""How long nothing is asked: doubled each time that the one let through fails as well."""


class Circuit:
    """What the last requests of one endpoint tell about the next; ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._last_key = ""
        self._pause = MIN_PAUSE_SECONDS
        self._closed_again_at: float | None = None
        self._finding_out = False

    @property
    def is_open(self) -> bool:
        """Whether requests fail without being sent."""
        return self._closed_again_at is not None

    def admit(self) -> None:
        """Let a request pass, or raise :class:`OriginSuspended`."""
        if self._closed_again_at is None:
            return
        now = self._clock()
        if now < self._closed_again_at:
            left = self._closed_again_at - now
            msg = f"nothing answered lately; not asked for {left:.1f} s more"
            raise OriginSuspended(msg, headers={"Retry-After": str(int(left) + 1)})
        # This one finds out. The others go on waiting until it does, or is given up.
        self._closed_again_at = now + self._pause
        self._finding_out = True

    def answered(self) -> None:
        """An answer came, whatever it says."""
        self._failures = 0
        self._last_key = ""
        self._pause = MIN_PAUSE_SECONDS
        self._closed_again_at = None
        self._finding_out = False

    def unanswered(self, key: str, *, connected: bool) -> None:
        """A request for ``key`` ended without an answer.

        Silence of a connected origin may be about one object. However often that is asked for,
        it counts once, so that a faulty object changes nothing for the others.
        """
        if connected and key == self._last_key:
            return
        self._last_key = key if connected else ""
        self._failures += 1
        if self._closed_again_at is None:
            if self._failures >= FAILURES_IN_A_ROW:
                self._closed_again_at = self._clock() + self._pause
        elif self._finding_out:  # else one that was sent before, and says nothing new
            self._finding_out = False
            self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)
            self._closed_again_at = self._clock() + self._pause
