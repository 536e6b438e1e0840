"""What the pages name exists: links, files, commands, options, settings, targets of make."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rangeserver.cli.main import main
from rangeserver.config import Config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECTIONS = Config.model_fields

LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:rangeserver|tests|bench)/[\w./-]+)`")
MODULE = re.compile(r"\bbench\.\w+")
SETTING = re.compile(rf"`({'|'.join(SECTIONS)})\.(\w+)")
VARIABLE = re.compile(r"RANGESERVER_([A-Z]+)__([A-Z_]+)")
TARGET = re.compile(r"(?:^    |`)make ([a-z-]+)", re.MULTILINE)
COMMAND = re.compile(r"(?:bin/|\$ |`)rangeserver ((?:[\w.-]+ ?)[^`#\n|]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by its name, those of groups with both."""

    def below(name: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
        context = click.Context(group)
        for each in group.list_commands(context):
            command = group.get_command(context, each)
            assert command is not None
            yield f"{name}{each}", command
            if isinstance(command, click.Group):
                yield from below(f"{name}{each} ", command)

    assert isinstance(main, click.Group)
    yield from below("", main)


COMMANDS = dict(commands())


def options(command: click.Command) -> set[str]:
    return {"--help"}.union(*(parameter.opts for parameter in command.params))


def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_files_and_modules_exist(page: Path) -> None:
    text = page.read_text()
    assert [name for name in FILE.findall(text) if not (ROOT / name).exists()] == []
    assert [name for name in MODULE.findall(text) if importlib.util.find_spec(name) is None] == []


def test_settings_exist(page: Path) -> None:
    text = page.read_text()
    variables = [(section.lower(), name.lower()) for section, name in VARIABLE.findall(text)]
    for section, name in [*SETTING.findall(text), *variables]:
        model = SECTIONS[section].annotation
        assert name in getattr(model, "model_fields", ()), f"{section}.{name}"


def test_targets_of_make_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(TARGET.findall(page.read_text())) <= set(targets)


def test_commands_and_their_options_exist(page: Path) -> None:
    for line in COMMAND.findall(page.read_text()):
        words = line.split()
        if words[0].startswith("-"):
            continue  # of the program itself
        name = next(
            (name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS),
            None,
        )
        assert name is not None, line
        assert set(OPTION.findall(line)) <= options(COMMANDS[name]), line


def test_every_page_is_reached_from_the_readme() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            links = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
            todo += [(page.parent / link).resolve() for link in links if link.endswith(".md")]
    assert set(PAGES) <= reached
