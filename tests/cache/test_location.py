"""Where the cache is."""

from __future__ import annotations

from pathlib import Path

import pytest

from rangeserver.cache.location import cache_directory


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        ("/c", {"CACHE_DIRECTORY": "/s", "XDG_CACHE_HOME": "/x"}, "/c"),
        ("", {"CACHE_DIRECTORY": "/s", "XDG_CACHE_HOME": "/x"}, "/s"),
        ("", {"CACHE_DIRECTORY": "/s:/t"}, "/s"),
        ("", {"CACHE_DIRECTORY": "", "XDG_CACHE_HOME": "/x"}, "/x/rangeserver"),
    ],
)
def test_key_prefix(configured: str, environ: dict[str, str], expected: str) -> None:
    assert cache_directory(configured, environ) == Path(expected)


def test_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_directory("", {}) == Path("/home/someone/.cache/rangeserver")


def test_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OSError, match="no home directory") as caught:
        cache_directory("", {})
    assert caught.value.strerror is not None
