"""Programs under test: their processor time, with their children's, and their end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.command import BenchError, require
from bench.processes import clean_environment, running
from tests.support import eventually

SPIN = "import time\nwhile time.process_time() < 0.2: pass"
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
subprocess.run([sys.executable, "-c", {SPIN!r}], check=True)
print("child", child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


async def test_children_count_and_end_with_it(tmp_path: Path) -> None:
    async with running("parent", [sys.executable, "-c", PARENT], tmp_path / "out") as program:
        child = int(await program.find_in_output(r"child ([0-9]+)"))
        assert program.cpu_seconds() >= 0.19  # spent by a child that has ended
        assert alive(child)
    assert program.process.returncode is not None
    await eventually(lambda: not alive(child), 2)  # killed, which takes a moment


async def test_what_it_said_is_told_when_it_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such setting'); raise SystemExit(78)"]
    with pytest.raises(BenchError, match="peer did not start: no such setting"):
        async with running("peer", command, tmp_path / "out") as program:
            await program.find_in_output(r"port ([0-9]+)")


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(BenchError, match=r"no-such-program is missing; .* package some-package"):
        require("no-such-program", "some-package")


def test_settings_of_the_caller_do_not_reach_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGESERVER_ORIGIN__BUCKET", "theirs")
    monkeypatch.setenv("AWS_PROFILE", "theirs")
    monkeypatch.setenv("OTHER", "kept")
    environ = clean_environment(OWN="1")
    assert "RANGESERVER_ORIGIN__BUCKET" not in environ
    assert "AWS_PROFILE" not in environ
    assert (environ["OTHER"], environ["OWN"]) == ("kept", "1")
