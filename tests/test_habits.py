"""Hooks and pages for developers say what the Makefile does."""

from __future__ import annotations

import re

import pytest

from tests.distributions import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_the_hooks_are_what_make_check_runs() -> None:
    hooks = re.findall(r"entry: make (\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    (checks,) = re.findall(r"^check: (.+)$", MAKEFILE, re.MULTILINE)
    assert hooks == checks.split()


def test_make_help_names_every_target() -> None:
    (*named,) = re.findall(r'echo "make ([a-z-]+)', MAKEFILE)
    assert {target for target in TARGETS if not target.startswith("check-")} == {
        *named,
        "help",
        "clean",
    }


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_pages_name_what_there_is(page: str) -> None:
    text = (ROOT / page).read_text()
    assert set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE)) <= TARGETS
    links = set(re.findall(r"\]\(((?!https:)[^)#\s]+)", text))
    files = set(re.findall(r"`((?:rangeserver|tests|bench|docs)/[\w./-]+)`", text))
    assert [name for name in links | files if not (ROOT / name).exists()] == []
