from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from rangeserver.cli.main import main


def test_the_shipped_file_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(main, ["config"]).stdout
    assert printed == (Path(__file__).parent.parent.parent / "config.toml").read_text()


def test_sizes_are_in_the_largest_unit_that_is_exact() -> None:
    printed = CliRunner().invoke(main, ["config"]).stdout
    sizes = dict(re.findall(r"^(\w+_bytes) = (.+)$", printed, re.MULTILINE))
    assert sizes == {
        "max_bytes": '"10GiB"',
        "min_free_bytes": '"1GiB"',
        "block_bytes": '"256KiB"',
        "read_ahead_bytes": '"128MiB"',
        "max_in_flight_bytes": '"512MiB"',
    }


def test_every_command_explains_itself() -> None:
    cache = (f"cache {name}" for name in ("stats", "list", "verify", "purge", "warm"))
    for command in ("", "serve", "check", "config", "demo", "cache", *cache):
        result = CliRunner().invoke(main, [*command.split(), "--help"])
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
        assert "..." not in result.stdout.partition("Commands:")[2]  # nothing is cut off there
