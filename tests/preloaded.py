"""What a process has done before it is forked off (:mod:`tests.forking`); imported nowhere else."""

from __future__ import annotations

import gc
from importlib import import_module

# First of all, for it sets the clock.
import tests.loops  # noqa: F401  # isort: split
from tests.clients import read_models

for command in ("cache", "check", "serve", "warm"):
    import_module(f"rangeserver.cli.{command}")
for forked in ("tests.cli.forked", "tests.faults.forked"):
    import_module(forked)
read_models()
gc.freeze()
