"""``python -m tests.fairly``: the command, in a process whose deadlines are kept by a fair clock
(:mod:`tests.loops`).
"""

from __future__ import annotations

# First of all, for it sets the clock.
from tests.loops import FairUvloop, kernel_comes_last  # isort: split

from unittest.mock import patch

from rangeserver.cli.main import main

if __name__ == "__main__":
    with patch("rangeserver.process.loop.new_event_loop", FairUvloop), kernel_comes_last():
        main(prog_name="python -m rangeserver")
