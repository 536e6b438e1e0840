"""Judging a peer by its progress and never by total time."""

from __future__ import annotations


class RateWindow:
    """Finds a peer that delivers less than a minimum rate, over windows of waiting time.

    Only time spent waiting for the peer counts: what we spend elsewhere is not its fault.
    A rate of 0 bytes per second judges nothing.
    """

    def __init__(self, min_bytes_per_second: float, window_seconds: float) -> None:
        self._needed = min_bytes_per_second * window_seconds
        self._window = window_seconds
        self._waited = 0.0
        self._received = 0

    def too_slow(self, received: int, waited_seconds: float) -> bool:
        """Account for ``received`` bytes that came after ``waited_seconds``; judge full windows."""
        self._received += received
        self._waited += waited_seconds
        if self._waited < self._window:
            return False
        slow = self._received < self._needed * (self._waited / self._window)
        self._waited, self._received = 0.0, 0
        return slow
