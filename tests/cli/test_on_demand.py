"""Commands are imported when they are wanted."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE

import click
import pytest

from rangeserver import __version__
from rangeserver.cli.main import main
from tests.cli.commands import DEADLINE_SECONDS, run

HEAVY = ("aiohttp", "botocore", "moto", "prometheus_client", "uvloop")
"""What takes longer to import than most commands take."""


def test_every_command_is_there_and_says_what_it_does() -> None:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str()


async def test_the_commands_by_name() -> None:
    listed = (await run("--help")).out.partition("Commands:")[2].partition("\n\n")[0].split("\n")
    assert [line.split()[0] for line in listed if line] == [
        *("cache", "check", "config", "demo", "serve")
    ]
    listed = (await run("cache", "--help")).out.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in listed if line] == [
        *("list", "purge", "stats", "verify", "warm")
    ]


async def test_a_command_that_is_none() -> None:
    finished = await run("cache", "warn")
    assert finished.code == 2
    assert "No such command 'warn'" in finished.err


async def test_version() -> None:
    finished = await run("--version")
    assert finished.out == f"rangeserver, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["config"],
        ["cache", "list", "--help"],
        ["cache", "purge", "--help"],
        ["cache", "stats", "--help"],
        ["cache", "verify", "--help"],
    ],
    ids=" ".join,
)
async def test_what_needs_no_server_imports_none(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from rangeserver.cli.main import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        f"sys.exit(', '.join(sorted(set(sys.modules) & {set(HEAVY)})))\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *arguments), stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, imported = await process.communicate()
    assert not imported.split()
