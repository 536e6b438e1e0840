"""When to look for credentials: ahead of their expiry, and again after a failure."""

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
    """A look-up may take."""
    ahead_seconds: float = 900.0
    """Before the expiry; later for what is short-lived, see :meth:`after_success`."""
    same_keys_seconds: float = 120.0
    """At most until the next look-up after one that found the same keys."""
    min_pause_seconds: float = 1.0
    max_pause_seconds: float = 60.0
    """Between failed look-ups, the pause doubling from one to the other."""
    max_pause_without_seconds: float = 5.0
    """The same while there are no valid credentials."""
    renewal_pause_seconds: float = 5.0
    """At least between look-ups that the origin's refusals ask for."""
    clock_seconds: float = 60.0
    """Between two looks at the clock, which may be set while we sleep."""
    same_warning_seconds: float = 60.0
    """At least between two warnings that say the same."""
    uniform: Callable[[float, float], float] = random.uniform

    def after_success(self, left: float, *, same_keys: bool) -> float:
        """The pause when credentials are valid for ``left`` seconds (infinite: for ever).

        At half of what is left at the latest. Keys that are still the same are looked at again
        soon: an instance's metadata service hands out new ones only some minutes before the old
        ones end, and botocore puts off the expiry it is told in that time by up to 25 minutes.
        """
        pause = left - min(self.ahead_seconds, left / 2)
        if same_keys and left < math.inf:
            pause = min(pause, self.same_keys_seconds)
        return max(pause, self.min_pause_seconds)

    def after_failure(self, failures: int, left: float) -> float:
        """The pause after so many failures in a row (1, 2, ...), while what is there is valid for
        ``left`` seconds. Jittered, so that a fleet does not come back all at once.
        """
        pause = self.min_pause_seconds * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
        if left > 0:
            pause = min(pause, self.max_pause_seconds, left / 2)
        else:
            pause = min(pause, self.max_pause_without_seconds)
        return max(self.uniform(pause / 2, pause), self.min_pause_seconds / 2)
