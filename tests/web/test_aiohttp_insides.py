"""Private names of aiohttp: those that are listed exist, and no others are used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from rangeserver.process.answering import ClientRequest
from rangeserver.process.connection import Connection
from rangeserver.web.aiohttp_insides import answer_as_http_1_1, version_of
from rangeserver.web.range_response import RangeResponse

PACKAGE = Path(__file__).parents[2] / "rangeserver"
INSIDES = PACKAGE / "web" / "aiohttp_insides.py"
PUBLIC = {"_replace"}
"""Of named tuples, whose fields have the names without an underscore."""


def names_of(*classes: type) -> set[str]:
    """The attributes of classes, and of those that they inherit from."""
    bases = {base for each in classes for base in each.__mro__}
    return {name for base in bases for name in (*vars(base), *getattr(base, "__slots__", ()))}


def private(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The private attributes used below ``node``: of what, and which."""
    for each in ast.walk(node):
        if (
            isinstance(each, ast.Attribute)
            and each.attr.startswith("_")
            and not each.attr.endswith("__")
        ):
            of = each.value
            if isinstance(of, ast.Call) and isinstance(of.func, ast.Name):
                yield of.func.id, each.attr
            else:
                yield of.id if isinstance(of, ast.Name) else "", each.attr


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def test_a_request_has_a_version_that_can_be_changed() -> None:
    request = make_mocked_request("GET", "/")
    answer_as_http_1_1(request)
    assert version_of(request) == request.version == (1, 1)


@pytest.mark.parametrize("ours", [Connection, ClientRequest, RangeResponse])
def test_those_that_inherit_from_aiohttp_use_nothing_private_of_it(ours: type) -> None:
    aiohttps = names_of(*ours.__bases__)
    path = PACKAGE.joinpath(*ours.__module__.split(".")[1:]).with_suffix(".py")
    used = {name for of, name in private(parsed(path)) if of in {"self", "super"}}
    assert not used & aiohttps


@pytest.mark.parametrize("layer", ["web", "process"])
def test_nobody_else_looks_inside(layer: str) -> None:
    """Of objects that are not their own, modules use what is public."""
    for path in (PACKAGE / layer).rglob("*.py"):
        if path == INSIDES:
            continue
        tree = parsed(path)
        others = {(of, name) for of, name in private(tree) if of not in {"self", "cls", "super"}}
        own = {name for _, name in private(tree)} & names_of(*_classes_of(path))
        assert not {name for _, name in others} - own - PUBLIC, path
        imports = (each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom))
        taken = {
            alias.name
            for each in imports
            if (each.module or "").partition(".")[0] == "aiohttp"
            for alias in each.names
        }
        assert not {name for name in taken if name.startswith("_")}, path


def _classes_of(path: Path) -> list[type]:
    """The classes that a module defines."""
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    module = __import__(".".join(relative.parts), fromlist=["x"])
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
    ]
