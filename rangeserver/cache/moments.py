"""When facts were told, from the clock of a process to that of files, and back.

A process goes by the monotonic clock, which nobody sets. That means nothing to another machine or
after a restart of this one, so files go by the wall clock. A moment in the future says that this
was set back, and no more than that: it counts as long ago.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

from rangeserver.cache.header import NEVER
from rangeserver.protocol.representation import ObjectFacts


def noted(facts: ObjectFacts) -> float:
    """When facts were told, as it is noted in a file: in seconds since the epoch."""
    return max(time.time() - (time.monotonic() - facts.told_at), NEVER)


def seconds_since(moment: float) -> float:
    """How long ago a noted moment is."""
    age = time.time() - moment
    return age if age >= 0 else math.inf


def as_told(facts: ObjectFacts, moment: float) -> ObjectFacts:
    """Facts of a file, as they are told in this process."""
    age = min(seconds_since(moment), time.time())
    return replace(facts, told_at=time.monotonic() - age)
