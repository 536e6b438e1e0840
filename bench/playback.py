"""A player's buffer: what it plays, when it runs dry, and when it asks for more. No I/O, no clock.

It begins to play once it has some seconds of the film, and plays at the film's rate. If it runs
dry it waits until it has as much again: that is a stall, and what viewers leave for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Playback:
    """One player. Times are seconds of any clock that never goes back."""

    bytes_per_second: float
    start_bytes: int
    target_bytes: int
    """What it likes to have in advance."""

    received: int = 0
    stalls: int = 0
    stalled_seconds: float = 0.0
    started: float | None = None
    """When it began to play for the first time."""

    _playing_since: float | None = None
    _played_before: float = 0.0
    _dry_since: float | None = None

    def buffered(self, now: float) -> float:
        """Bytes that came and were not played yet."""
        if self._playing_since is None:
            return self.received - self._played_before
        played = self._played_before + (now - self._playing_since) * self.bytes_per_second
        return max(self.received - played, 0.0)

    def take(self, count: int, now: float) -> None:
        """Bytes came."""
        self.look(now)
        self.received += count
        if self._playing_since is None and self.buffered(now) >= self.start_bytes:
            self._playing_since = now
            if self.started is None:
                self.started = now
            if self._dry_since is not None:
                self.stalled_seconds += now - self._dry_since
                self._dry_since = None

    def look(self, now: float) -> None:
        """Notice if it has run dry."""
        if self._playing_since is None:
            return
        lasts = (self.received - self._played_before) / self.bytes_per_second
        if now - self._playing_since > lasts:
            self.stalls += 1
            self._dry_since = self._playing_since + lasts
            self._played_before = self.received
            self._playing_since = None

    def room_in(self, count: int, now: float) -> float:
        """Seconds until it has room for so many bytes more; 0 if it has."""
        excess = self.buffered(now) + count - self.target_bytes
        return max(excess / self.bytes_per_second, 0.0)

    def finish(self, now: float) -> None:
        """It is over, also with the stall it may be in."""
        self.look(now)
        if self._dry_since is not None:
            self.stalled_seconds += now - self._dry_since
            self._dry_since = None
