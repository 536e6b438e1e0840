from __future__ import annotations

import errno

import pytest

from rangeserver.cache import passed_by
from rangeserver.cache.passed_by import PASSED_BY_SECONDS, PassedBy, is_of_the_file


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_object_is_passed_by_for_a_while() -> None:
    clock = Clock()
    passed = PassedBy(clock)
    assert "a" not in passed
    passed.add("a", "too large")
    assert "a" in passed
    assert "b" not in passed
    clock.now = PASSED_BY_SECONDS
    assert "a" not in passed


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passed_by, "_MAX_OBJECTS", 2)
    passed = PassedBy(Clock())
    for cache_key in ("a", "b", "a", "c"):
        passed.add(cache_key, "too large")
    assert [cache_key in passed for cache_key in ("a", "b", "c")] == [True, False, True]


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EOVERFLOW, errno.ENOSPC, errno.EIO])
def test_what_is_the_fault_of_one_file(number: int) -> None:
    expected = number in {errno.EFBIG, errno.EOVERFLOW}
    assert is_of_the_file(OSError(number, "")) is expected
