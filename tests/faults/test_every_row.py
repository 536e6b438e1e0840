"""Every row of the fault catalogue has a test that names it, and every name is that of a row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROW = re.compile(r"^\| ([A-F]\d+) \|", re.MULTILINE)
IN_A_NAME = re.compile(r"\bdef test_((?:[a-f]\d\d_)+)")
IN_A_MARK = re.compile(r"pytest\.mark\.fault\(([^)]*)\)")


def rows() -> list[str]:
    return ROW.findall((TESTS.parent / "docs" / "faults.md").read_text())


def named(source: str) -> Iterator[str]:
    """The rows that a test file names, once for each time."""
    for prefix in IN_A_NAME.findall(source):
        yield from (f"{row[0].upper()}{int(row[1:])}" for row in prefix.split("_") if row)
    for arguments in IN_A_MARK.findall(source):
        yield from re.findall(r'"([^"]*)"', arguments)


def test_every_row_is_named_and_every_name_is_a_row() -> None:
    catalogue = rows()
    assert len(catalogue) == len(set(catalogue))
    in_tests = {
        row
        for path in TESTS.rglob("test_*.py")
        if path != Path(__file__)
        for row in named(path.read_text())
    }
    assert in_tests == set(catalogue)


def test_names_are_found() -> None:
    source = 'def test_a01_b12_this():\n@pytest.mark.fault("C3", "D4")\ndef test_d_05_that():'
    assert list(named(source)) == ["A1", "B12", "C3", "D4"]
