from __future__ import annotations

import pytest

from rangeserver.cli.words import age_text, count_text, printable, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (3 * 1024**3 // 2, "1.5 GiB"),
        (1024**4, "1.0 TiB"),
        (5000 * 1024**5, "5000.0 PiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (172_800, "2 d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_one_and_several() -> None:
    assert (count_text(1, "object"), count_text(0, "object")) == ("1 object", "0 objects")


def test_a_terminal_is_not_spoken_to() -> None:
    assert printable("a b é 🎬") == "a b é 🎬"
    assert printable("a\x1b[2J") == r"'a\x1b[2J'"
