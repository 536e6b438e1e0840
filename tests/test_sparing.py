from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rangeserver.sparing import KIND_RECORDS, SAME_SECONDS, Sparing, sparing
from tests.test_logs import written


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sparing_log(clock: Clock) -> Iterator[logging.Logger]:
    log = logging.getLogger("rangeserver.test")
    log.addFilter(Sparing(clock))
    yield log
    log.filters.clear()


def messages(log: Callable[[], None], level: Any = "info") -> list[str]:
    lines = written(log, format="text", level=level)
    return [line.partition("rangeserver.test: ")[2] for line in lines]


def test_a_sparing_log_says_the_same_thing_once_in_a_while(
    sparing_log: logging.Logger, clock: Clock
) -> None:
    def many() -> None:
        for _ in range(1000):
            sparing_log.warning("a is %s", "broken")
        sparing_log.warning("b is %s", "broken")
        clock.now += SAME_SECONDS
        sparing_log.warning("a is %s", "broken")

    assert messages(many) == [
        "a is broken",
        "b is broken",
        "a is broken (999 more like it were left out)",
    ]


def test_nor_many_things_of_one_kind(sparing_log: logging.Logger, clock: Clock) -> None:
    def many() -> None:
        for number in range(1000):
            sparing_log.warning("%d is broken", number)
        clock.now += SAME_SECONDS - 1
        sparing_log.warning("1000 is broken, of another kind")
        sparing_log.warning("%d is broken", 1000)
        clock.now += 1
        sparing_log.warning("%d is broken", 1001)
        sparing_log.warning("%d is broken", 1002)

    assert messages(many) == [
        *(f"{number} is broken" for number in range(KIND_RECORDS)),
        "1000 is broken, of another kind",
        f"1001 is broken ({1001 - KIND_RECORDS} more like it were left out)",
        "1002 is broken",
    ]


def test_whoever_looks_for_a_fault_sees_everything(sparing_log: logging.Logger) -> None:
    def many() -> None:
        for _ in range(50):
            sparing_log.debug("here")

    assert messages(many, "debug") == ["here"] * 50


def test_what_it_remembers_is_bounded(sparing_log: logging.Logger) -> None:
    (spare,) = sparing_log.filters
    assert isinstance(spare, Sparing)
    for number in range(5000):
        spare.filter(logging.LogRecord("x", logging.INFO, "", 0, "%d", (number,), None))
        spare._kinds.clear()
    assert len(spare._logged) == 1024


def test_a_slip_of_a_caller_is_left_to_the_writer() -> None:
    slip = logging.LogRecord("x", logging.INFO, "", 0, "%d and %d", (1,), None)
    assert Sparing().filter(slip)
    assert slip.args == (1,)


def test_a_logger_is_made_sparing_once() -> None:
    log = logging.getLogger("rangeserver.test")
    assert sparing(sparing(log)) is log
    assert len(log.filters) == 1
    log.filters.clear()
