"""Every row of docs/wire.md has a test that names it, and every name in a test is that of a row."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import tests.wire
from tests.wire.table import COVERED

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"
NAME = re.compile(r"`([1-8]-[a-z0-9.-]+)`")


def rows() -> list[str]:
    """The names in the last column of each table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [name for line in lines for name in NAME.findall(line.split("|")[-2])]


def test_every_row_is_named_and_every_name_is_a_row() -> None:
    for module in pkgutil.iter_modules(tests.wire.__path__):
        importlib.import_module(f"tests.wire.{module.name}")
    assert len(rows()) == len(set(rows()))
    assert set(COVERED) == set(rows())


def test_every_row_of_a_numbered_section_has_a_name() -> None:
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE):
        number = section.partition(".")[0]
        for line in section.splitlines() if number.isdecimal() else ():
            if line.startswith("|") and not line.startswith(("|---", "| request |", "| case |")):
                names = NAME.findall(line.split("|")[-2])
                assert names or line.endswith("| row |"), line
