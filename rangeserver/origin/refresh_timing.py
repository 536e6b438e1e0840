"""When to look for credentials: before they expire, and again after a failure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

_MAX_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class RefreshTiming:
    """The rules, in seconds."""

    look_up_seconds: float = 10.0
    """The longest lookup."""
    ahead_seconds: float = 900.0
    """So long before the expiry; later for short-lived ones, see :meth:`after_success`."""
    same_keys_seconds: float = 120.0
    """The longest time until the next lookup after one that found the same keys."""
    min_pause_seconds: float = 1.0
    max_pause_seconds: float = 60.0
    """Between failed lookups; the pause doubles each time."""
    max_pause_without_seconds: float = 5.0
    """The same while there are no valid credentials."""
    renewal_pause_seconds: float = 5.0
    """The shortest time between lookups that refusals of the origin cause."""
    clock_seconds: float = 60.0
    """How often to look at the clock, which may be set meanwhile."""
    same_warning_seconds: float = 60.0
    """The shortest time between two equal warnings."""
    uniform: Callable[[float, float], float] = random.uniform

    def after_success(self, left: float, *, same_keys: bool) -> float:
        """The pause before the next lookup, if credentials are valid for ``left`` seconds, which
        may be infinite: at most half of that.

        After one that found the same keys, the next lookup comes soon: a metadata service has new
        keys only some minutes before the old ones expire, and botocore then moves the expiry by up
        to 25 minutes.
        """
        pause = left - min(self.ahead_seconds, left / 2)
        if same_keys and left < math.inf:
            pause = min(pause, self.same_keys_seconds)
        return max(pause, self.min_pause_seconds)

    def after_failure(self, failures: int, left: float) -> float:
        """The pause after so many failures in a row (1, 2, ...), while the old credentials are
        valid for ``left`` seconds. Jittered, so that a fleet of servers does not come all at once.
        """
        pause = self.min_pause_seconds * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
        if left > 0:
            pause = min(pause, self.max_pause_seconds, left / 2)
        else:
            pause = min(pause, self.max_pause_without_seconds)
        return max(self.uniform(pause / 2, pause), self.min_pause_seconds / 2)
