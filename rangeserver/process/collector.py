"""How often Python looks for cyclic garbage."""

from __future__ import annotations

import gc

_COLLECT_AFTER_OBJECTS = 20_000
"""Of those that may be part of a cycle: some MiB at most that are freed a moment later."""


def tune_collector() -> None:
    """Have it looked for less often, and not among what has been there from the start.

    A request leaves next to none, yet makes a hundred objects: by Python's own threshold of 700
    every few requests pay for a look.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)
