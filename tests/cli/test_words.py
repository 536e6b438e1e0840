from __future__ import annotations

from rangeserver.cli.words import printable


def test_a_terminal_is_not_spoken_to() -> None:
    assert printable("a b é 🎬") == "a b é 🎬"
    assert printable("a\x1b[2J") == r"'a\x1b[2J'"
