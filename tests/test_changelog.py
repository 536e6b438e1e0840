"""The changelog: which version it is of, and how it is written."""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise

from rangeserver import __version__
from tests.distributions import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASES = re.findall(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d{2}-\d{2})\)$", CHANGELOG, re.MULTILINE)
HEADINGS = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)


def test_the_newest_release_is_this_version() -> None:
    assert RELEASES[0][0] == __version__


def test_releases_have_dates_the_newest_first() -> None:
    dates = [date.fromisoformat(day) for _, day in RELEASES]
    assert all(newer >= older for newer, older in pairwise(dates))
    assert HEADINGS[0] == "Unreleased"
    assert len(HEADINGS) == 1 + len(RELEASES)


def test_lines_are_short() -> None:
    assert max(map(len, CHANGELOG.splitlines())) <= 300
