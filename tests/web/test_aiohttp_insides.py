"""Private names of aiohttp: those that are listed exist, and no others are used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from rangeserver.web.aiohttp_insides import (
    HANDLER_NAMES,
    RUNNER_NAMES,
    answer_as_http_1_1,
    close_after,
    version_of,
)

PACKAGE = Path(__file__).parents[2] / "rangeserver"
INSIDES = PACKAGE / "web" / "aiohttp_insides.py"
CONNECTION = ("in_turn.py", "leaving.py", "connections.py")
"""The modules of the class that is aiohttp's handler; others have what is named there."""


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


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (web.RequestHandler, HANDLER_NAMES),
        (web.AppRunner, RUNNER_NAMES),
        (BaseProtocol, {"_drain_helper"}),
    ],
)
def test_aiohttp_has_them(of: type, names: set[str]) -> None:
    assert not names - names_of(of)


def test_a_request_has_them() -> None:
    request = make_mocked_request("GET", "/")
    close_after(request)
    assert not request.keep_alive
    answer_as_http_1_1(request)
    assert version_of(request) == request.version == (1, 1)


def test_the_connection_uses_those_that_are_listed() -> None:
    aiohttps = names_of(web.RequestHandler)
    used = {
        name
        for file in CONNECTION
        for of, name in private(parsed(PACKAGE / "process" / file))
        if of in {"self", "super"} and name in aiohttps
    }
    assert used == HANDLER_NAMES


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
