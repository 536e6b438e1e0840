"""Converts the age of facts between the clock of a process and that of files.

A process measures ages by the monotonic clock, which nobody sets. It means nothing to another
machine, or after a restart of this one, so files have moments of the wall clock. A moment in the
future shows that the wall clock was set back, nobody knows by how much: it counts as long ago.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

from rangeserver.cache.header import NEVER
from rangeserver.protocol.representation import ObjectFacts


def moment_of(facts: ObjectFacts) -> float:
    """When the origin gave these facts, for a file: in seconds since the epoch."""
    return max(time.time() - (time.monotonic() - facts.validated_at), NEVER)


def age_of(moment: float) -> float:
    """How many seconds ago a moment in a file is."""
    age = time.time() - moment
    return age if age >= 0 else math.inf


def validated_at(facts: ObjectFacts, moment: float) -> ObjectFacts:
    """Facts from a file that the origin gave at this moment, for this process."""
    age = min(age_of(moment), time.time())
    return replace(facts, validated_at=time.monotonic() - age)
