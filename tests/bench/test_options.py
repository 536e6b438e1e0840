from __future__ import annotations

import subprocess
import sys

import pytest

from bench.command import ROOT

COMMANDS = [
    *("against_node", "cached_ranges", "cold_stream", "hedging", "herd", "paced_players"),
    *("soak", "stalled_viewers", "uncached_relay"),
]


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_explains_itself(name: str) -> None:
    command = [sys.executable, "-m", f"bench.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage:")
    assert not done.stderr
