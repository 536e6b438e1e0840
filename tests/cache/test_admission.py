"""Which small reads have blocks fetched: those that something speaks for, within an account."""

from __future__ import annotations

import pytest

from rangeserver.cache.admission import Admission, is_small
from rangeserver.origin.base import ReadReport, reporting
from tests.origin.clock import Clock

BLOCK = 256 * 1024
PLENTY = 16 << 20


def admits(
    admission: Admission,
    start: int,
    stop: int,
    *,
    cache_key: str = "a",
    client: str = "",
    expected: bool = False,
) -> bool:
    fetched = ((stop - 1) // BLOCK + 1 - start // BLOCK) * BLOCK
    with reporting(ReadReport(client=client)):
        return admission.admits(cache_key, start, stop, fetched=fetched, expected=expected)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(BLOCK, clock)


@pytest.mark.parametrize(
    ("length", "fetched", "small"),
    [(1, BLOCK, True), (BLOCK, BLOCK, False), (BLOCK // 2, BLOCK, False), (3, 6, False)],
)
def test_less_than_half_is_small(length: int, fetched: int, small: bool) -> None:
    assert is_small(length, fetched) == small


def test_the_second_of_a_block_is_admitted(admission: Admission) -> None:
    assert not admits(admission, 0, 20_000)
    assert admits(admission, 50_000, 70_000)
    assert admits(admission, 0, 20_000)


def test_of_another_block_or_object_it_is_the_first(admission: Admission) -> None:
    assert not admits(admission, 0, 20_000)
    assert not admits(admission, BLOCK, BLOCK + 20_000)
    assert not admits(admission, 0, 20_000, cache_key="b")


def test_of_two_blocks_either_counts(admission: Admission) -> None:
    assert not admits(admission, BLOCK - 20_000, BLOCK + 20_000)
    assert admits(admission, BLOCK + 20_000, BLOCK + 40_000)
    assert not admits(admission, 5 * BLOCK, 5 * BLOCK + 20_000)
    assert admits(admission, 5 * BLOCK - 20_000, 5 * BLOCK + 20_000)


def test_what_is_expected_is_admitted(admission: Admission) -> None:
    assert admits(admission, 7 * BLOCK, 7 * BLOCK + 20_000, expected=True)


def test_scattered_ones_are_not(admission: Admission) -> None:
    assert not any(admits(admission, n * BLOCK, n * BLOCK + 1) for n in range(10_000))


def test_what_it_remembers_is_bounded(admission: Admission) -> None:
    starts = [number * BLOCK for number in range(1000)]
    assert not any(admits(admission, start, start + 20_000) for start in starts)
    for number in range(500_000):
        admission._seen(hash(("b", number)))
    assert sum(admits(admission, start, start + 20_000) for start in starts) < 50
    assert len(admission._seen._hashes) == 1 << 16


def cost_of(admission: Admission, number: int, client: str = "") -> bool:
    """Ask twice for a byte of a block; whether it was admitted then."""
    assert not admits(admission, number * BLOCK, number * BLOCK + 1, client=client)
    return admits(admission, number * BLOCK, number * BLOCK + 1, client=client)


def test_next_to_nothing_is_paid_for(admission: Admission, clock: Clock) -> None:
    affordable = PLENTY // BLOCK
    assert [cost_of(admission, n) for n in range(100)] == [n < affordable for n in range(100)]
    # Others have accounts of their own, and what is worth it costs nothing.
    assert cost_of(admission, 1000, client="192.0.2.1")
    assert not admits(admission, 2000 * BLOCK, 2000 * BLOCK + 20_000)
    assert admits(admission, 2000 * BLOCK, 2000 * BLOCK + 20_000)
    clock.now += 1.0
    assert [cost_of(admission, n) for n in range(3000, 3008)] == [True] * 4 + [False] * 4
    clock.now += 3600.0
    assert sum(cost_of(admission, n) for n in range(4000, 4100)) == affordable


def test_buckets_are_bounded(admission: Admission) -> None:
    for number in range(5000):
        assert cost_of(admission, number, client=str(number))
    assert len(admission._buckets._left) == 4096


def test_a_large_block_is_affordable(clock: Clock) -> None:
    block = 16 << 20
    admission = Admission(block, clock)
    for number in range(4):
        admits_it = [
            admission.admits("a", number * block, number * block + 1, fetched=block, expected=False)
            for _ in range(2)
        ]
        assert admits_it == [False, True]
