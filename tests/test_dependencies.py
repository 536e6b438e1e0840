"""Whatever is imported is declared: what others bring may be gone with their next version."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN = {"rangeserver", "tests", "bench"}


def imported(tree: Path) -> set[str]:
    """The modules of others that a tree imports, by their first names."""
    names: set[str] = set()
    for path in tree.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - OWN - set(sys.stdlib_module_names)


def named(requirements: list[str]) -> set[str]:
    """The distributions of requirements, as their names are compared."""
    names = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {plain(name[0]) for name in names if name is not None}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


NEEDED = named(PROJECT["dependencies"])
DEMO = NEEDED | named(PROJECT["optional-dependencies"]["demo"])
DEV = DEMO | named(PROJECT["optional-dependencies"]["dev"])


@pytest.mark.parametrize(
    ("tree", "declared"),
    [
        *((path, NEEDED) for path in (ROOT / "rangeserver").iterdir() if path.name != "demo"),
        (ROOT / "rangeserver" / "demo", DEMO),
        (ROOT / "tests", DEV),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_what_is_imported_is_declared(tree: Path, declared: set[str]) -> None:
    providers = packages_distributions()
    missing = {
        name
        for name in imported(tree)
        if not declared & {plain(distribution) for distribution in providers.get(name, [name])}
    }
    assert missing - ONLY_FOR_TYPES == set()


ONLY_FOR_TYPES = {"_typeshed", "types_aiobotocore_s3"}


@pytest.mark.parametrize("extra", ["", "-demo", "-dev"])
def test_what_is_declared_is_pinned(extra: str) -> None:
    """In the files that it is installed by, at a version that is allowed."""
    pinned = dict(
        re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / f"requirements{extra}.txt").read_text(), re.M)
    )
    for name in {"": NEEDED, "-demo": DEMO, "-dev": DEV}[extra] - {"rangeserver"}:
        assert name in {plain(each) for each in pinned}
    assert pinned["aiobotocore"].startswith("3.10.")
