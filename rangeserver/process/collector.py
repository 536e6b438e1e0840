"""Python's garbage collector, tuned for a loop that must not be late.

A full collection looks at every object there is: what the libraries loaded at the start, which is
never garbage, takes a tenth of a second of it, and each viewer adds to that. Reference counting
frees nearly all that ends here; the collector is for what is left in cycles, such as the frames of
an error.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""New objects, beyond those that went, before the young are looked at: those of some hundred
requests, which leave next to none."""

MIDDLE_AGE = 10
"""Collections of the young before what survived them is looked at."""

OLD_AGE = 250
"""Collections of those before all is looked at; millions of objects came in the meantime."""


def spare_the_loop() -> None:
    """Leave what exists now out of every later collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, MIDDLE_AGE, OLD_AGE)
