"""What an object's Cache-Control field says."""

from __future__ import annotations

from typing import Any

import pytest

from rangeserver.protocol.cache_control import CacheControl, may_be_stored, read_cache_control

NO: dict[str, Any] = {"storable": False}
ASKS: dict[str, Any] = {"asks_always": True}
NEVER: dict[str, Any] = {"never_stale": True}


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (None, {}),
        ("", {}),
        (" , ,", {}),
        ("public, immutable", {}),
        ("no-store", NO),
        ("max-age=60 , PRIVATE", {**NO, "lifetime": 60}),
        ('private="set-cookie"', NO),
        ("no-cache", ASKS),
        ('no-cache="x"', ASKS),
        ("must-revalidate", NEVER),
        ("public,Proxy-Revalidate", NEVER),
        ("x-no-store, nocache, my-max-age=5", {}),
        ("max-age=60", {"lifetime": 60}),
        ("max-age=0", {"lifetime": 0}),
        ('MAX-AGE="60"', {"lifetime": 60}),
        ("max-age=9999999999", {"lifetime": 2**31}),
        ("max-age=60, s-maxage=5", {"lifetime": 5, "strict": True}),
        ("s-maxage=60, max-age=5", {"lifetime": 60, "strict": True}),
        ("max-age=60, max-age=5", {"lifetime": 5}),
        ('x="a, max-age=5", max-age=60', {"lifetime": 60}),
        ('x="a\\", max-age=5", max-age=60', {"lifetime": 60}),
        (
            "max-age=1, stale-while-revalidate=30, stale-if-error=600",
            {"lifetime": 1, "stale_while_revalidate": 30, "stale_if_error": 600},
        ),
        # What is no number of seconds gives no time at all.
        ("max-age", {"lifetime": 0}),
        ("max-age=", {"lifetime": 0}),
        ("max-age=-1", {"lifetime": 0}),
        ("max-age=1.5", {"lifetime": 0}),
        ("max-age = 60", {"lifetime": 0}),
        ("max-age=60; no-store", {"lifetime": 0}),
        ("max-age=60, s-maxage=x", {"lifetime": 0, "strict": True}),
        ("max-age=" + "9" * 5000, {"lifetime": 0}),
        ("max-age=\u0661", {"lifetime": 0}),
        ("stale-if-error=soon", {"stale_if_error": 0}),
    ],
)
def test_directives(field: str | None, said: dict[str, Any]) -> None:
    assert read_cache_control(field) == CacheControl(**said)
    assert may_be_stored(field) is said.get("storable", True)


@pytest.mark.parametrize("piece", ['a="', "max-age=,", ",", '\\"', "=", "a=b ", "\t"])
def test_a_long_field_is_read_at_once(piece: str) -> None:
    """All that can stand in a header line: the work grows with its length and no faster."""
    read_cache_control(piece * (8190 // len(piece)))
