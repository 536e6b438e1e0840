"""The collector is tuned for a process of its own: what it does is looked at in one."""

from __future__ import annotations

import subprocess
import sys

from rangeserver.process.collector import MIDDLE_AGE, OLD_AGE, YOUNG_OBJECTS

SCRIPT = """
import gc
import rangeserver.app
from rangeserver.process.collector import spare_the_loop

class Cycle:
    def __init__(self):
        self.me = self

gc.collect()
before = len(gc.get_objects())
spare_the_loop()
print(gc.get_freeze_count() > before * 0.9, len(gc.get_objects()) < before * 0.1)
print(*gc.get_threshold())
Cycle()
print(gc.collect() > 0)
"""


def test_what_exists_is_left_out_of_later_collections_and_new_cycles_are_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, timeout=60
    )
    frozen, thresholds, collected = done.stdout.splitlines()
    assert frozen == "True True"
    assert thresholds == f"{YOUNG_OBJECTS} {MIDDLE_AGE} {OLD_AGE}"
    assert collected == "True"
