from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from rangeserver.cli.main import main


def test_the_shipped_file_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(main, ["config"]).stdout
    assert printed == (Path(__file__).parent.parent.parent / "config.toml").read_text()


def test_every_command_explains_itself() -> None:
    cache = (f"cache {name}" for name in ("stats", "list", "verify", "purge", "warm"))
    for command in ("", "serve", "check", "config", "demo", "cache", *cache):
        result = CliRunner().invoke(main, [*command.split(), "--help"])
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
        assert "..." not in result.stdout.partition("Commands:")[2]  # nothing is cut off there
