"""How far ahead to fetch."""

from __future__ import annotations

from rangeserver.cache.read_ahead import MAX_FETCH_BYTES, MIN_FETCH_BYTES, PARALLEL, ReadAhead

MIB = 1 << 20


def test_one_who_waits_once_keeps_the_first_window() -> None:
    ahead = ReadAhead(128 * MIB)
    ahead.starved(0)
    ahead.starved(1000)
    assert (ahead.window, ahead.fetch_bytes) == (MIN_FETCH_BYTES, MIN_FETCH_BYTES)


def test_it_doubles_for_each_window_read_through_up_to_the_limit() -> None:
    ahead = ReadAhead(12 * MIB)
    windows = []
    for position in range(0, 64 * MIB, MIB // 4):
        ahead.starved(position)
        windows.append(ahead.window // MIB)
    assert sorted(set(windows)) == [1, 2, 4, 8, 12]
    assert windows == sorted(windows)


def test_a_small_limit_is_still_one_fetch() -> None:
    ahead = ReadAhead(10)
    for position in range(0, 64 * MIB, MIB):
        ahead.starved(position)
    assert ahead.window == MIN_FETCH_BYTES


def test_the_size_of_a_fetch_grows_with_the_window_between_its_bounds() -> None:
    assert ReadAhead(MIB, window=80 * MIB).fetch_bytes == 80 * MIB // PARALLEL
    assert ReadAhead(MIB, window=10_000 * MIB).fetch_bytes == MAX_FETCH_BYTES
