"""The options of each command, what their help says, and their completion in a shell."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from rangeserver.cli.main import main
from rangeserver.config import Config
from rangeserver.config.tree import table_model

NAMES = {"--config", "--bucket", "--prefix", "--endpoint-url", "--cache-dir"}
LISTENERS = {"--host", "--port", "--tls-certificate", "--tls-key", "--admin-port"}
OPTIONS = {
    "serve": NAMES | LISTENERS | {"--region", "--no-cache", "--log-format"},
    "check": NAMES | LISTENERS | {"--region", "--no-cache", "--key"},
    "config": set[str](),
    "demo": {"--video", "--port", "--speed"},
    "cache stats": {"--config", "--cache-dir", "--json"},
    "cache list": NAMES | {"--json"},
    "cache verify": NAMES | {"--remove"},
    "cache purge": NAMES | {"--all"},
    "cache warm": NAMES | {"--region"},
}


def options(name: str) -> list[click.Option]:
    command: click.Command = main
    for word in name.split():
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_command_has_the_options_that_concern_it(name: str) -> None:
    assert {option.opts[0] for option in options(name)} == OPTIONS[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_says_what_it_does_and_which_setting_it_is(name: str) -> None:
    for option in options(name):
        text, _, setting = (option.help or "").partition(" [")
        assert text.endswith("."), option.opts
        assert len(text.split()) > 2, option.opts
        assert len(text) <= 60, option.opts
        if setting:
            section, _, key = setting.removesuffix("]").partition(".")
            model = table_model(Config.model_fields[section])
            assert model is not None
            assert key in model.model_fields


def test_an_option_that_does_not_concern_a_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["cache", "stats", "--tls-key", "key"])
    assert result.exit_code == 2
    assert "No such option" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_completes_in_a_shell(shell: str) -> None:
    variables = {"_RANGESERVER_COMPLETE": f"{shell}_source"}
    result = CliRunner().invoke(main, prog_name="rangeserver", env=variables)
    # An old bash is warned of, on machines that have none or one before 4.4.
    assert f"_RANGESERVER_COMPLETE={shell}_complete" in result.stdout
    assert f"_RANGESERVER_COMPLETE={shell}_source" in CliRunner().invoke(main, ["--help"]).stdout


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ser", ["plain,serve"]),
        ("cache ", [f"plain,{name}" for name in ("list", "purge", "stats", "verify", "warm")]),
        ("serve --log-format ", ["plain,json", "plain,text"]),
        ("cache stats --c", ["plain,--config", "plain,--cache-dir"]),
        ("serve --config ", ["file,"]),
    ],
)
def test_what_bash_is_given_to_complete(typed: str, expected: list[str]) -> None:
    variables = {
        "_RANGESERVER_COMPLETE": "bash_complete",
        "COMP_WORDS": f"rangeserver {typed}",
        "COMP_CWORD": str(typed.count(" ") + 1),
    }
    result = CliRunner().invoke(main, prog_name="rangeserver", env=variables)
    assert result.stdout.split("\n")[:-1] == expected
