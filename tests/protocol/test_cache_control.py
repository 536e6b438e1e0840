"""What an object's Cache-Control field allows."""

from __future__ import annotations

import pytest

from rangeserver.protocol.cache_control import may_be_believed, may_be_stale, may_be_stored


@pytest.mark.parametrize(
    ("field", "stored", "believed", "stale"),
    [
        (None, True, True, True),
        ("", True, True, True),
        ("max-age=60, public", True, True, True),
        ("no-store", False, True, True),
        ("max-age=60 , PRIVATE", False, True, True),
        ('private="set-cookie"', False, True, True),
        ("no-cache", True, False, False),
        ('no-cache="x"', True, False, False),
        ("must-revalidate", True, True, False),
        ("public,Proxy-Revalidate", True, True, False),
        ("x-no-store, nocache", True, True, True),
    ],
)
def test_directives(field: str | None, stored: bool, believed: bool, stale: bool) -> None:
    assert may_be_stored(field) is stored
    assert may_be_believed(field) is believed
    assert may_be_stale(field) is stale
