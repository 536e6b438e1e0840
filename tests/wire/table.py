"""Tables of cases: every case belongs to a named row, and every row used is remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import pytest

_Test = TypeVar("_Test", bound=Callable[..., Any])

on_our_connections = pytest.mark.parametrize("films", ["ours"], indirect=True)
"""For what aiohttp's own connection answers by itself, or otherwise: requests that its parser
refuses, compressed bodies, half-closed clients. The application never sees these."""

everywhere = pytest.mark.parametrize("films", ["ours", "run_app", "gunicorn"], indirect=True)
"""In every run of the tests, not only in the long one."""

COVERED: dict[str, int] = {}
"""Rows that some test runs, and with how many cases."""


class Case(Protocol):
    """One line of a table."""

    @property
    def row(self) -> str:
        """The row it belongs to, such as ``1-suffix``."""

    @property
    def what(self) -> str:
        """What tells it from the row's other cases."""


def table(cases: Sequence[Case]) -> Callable[[_Test], _Test]:
    """Run a test once for each case, as parameter ``case``."""
    ids = [f"{case.row}/{case.what}" if case.what else case.row for case in cases]
    assert len(set(ids)) == len(ids), "two cases have one name"
    for case in cases:
        COVERED[case.row] = COVERED.get(case.row, 0) + 1
    return pytest.mark.parametrize("case", cases, ids=ids)


def covers(*rows: str) -> Callable[[_Test], _Test]:
    """Note that a test, which is no table, covers these rows, and let its id begin with them.

    To stand nearest to the function, below other parameters.
    """
    assert rows
    for row in rows:
        COVERED[row] = COVERED.get(row, 0) + 1
    return pytest.mark.parametrize("row", ["+".join(rows)], indirect=True)
