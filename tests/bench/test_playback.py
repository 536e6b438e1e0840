"""A player's buffer: when it plays, when it runs dry, when it wants more."""

from __future__ import annotations

import pytest

from bench.playback import Playback


def player() -> Playback:
    return Playback(bytes_per_second=10, start_bytes=20, target_bytes=100)


def test_it_begins_once_it_has_enough() -> None:
    playback = player()
    playback.take(19, now=1.0)
    assert playback.started is None
    assert playback.buffered(5.0) == 19
    playback.take(1, now=5.0)
    assert playback.started == 5.0
    assert playback.buffered(6.0) == 10


def test_it_does_not_stall_while_bytes_come_in_time() -> None:
    playback = player()
    for second in range(20):
        playback.take(20 if second == 0 else 10, now=float(second))
    playback.finish(20.0)
    assert playback.stalls == 0
    assert playback.stalled_seconds == 0


def test_a_stall_lasts_from_the_last_byte_played_until_it_has_enough_again() -> None:
    playback = player()
    playback.take(20, now=0.0)  # lasts until 2.0
    playback.take(10, now=5.0)  # too little to go on
    playback.take(10, now=6.0)
    playback.finish(7.0)
    assert (playback.stalls, playback.stalled_seconds) == (1, 4.0)
    assert playback.started == 0.0
    assert playback.buffered(7.0) == 10


def test_a_stall_that_does_not_end_is_counted_at_the_end() -> None:
    playback = player()
    playback.take(20, now=0.0)
    playback.finish(5.0)
    assert (playback.stalls, playback.stalled_seconds) == (1, 3.0)


def test_one_that_never_began_has_not_stalled() -> None:
    playback = player()
    playback.take(5, now=0.0)
    playback.finish(100.0)
    assert playback.stalls == 0
    assert playback.started is None


@pytest.mark.parametrize(
    ("piece", "now", "seconds"), [(40, 0.0, 0.0), (40, 4.0, 0.0), (80, 0.0, 4)]
)
def test_it_waits_until_it_has_room(piece: int, now: float, seconds: float) -> None:
    playback = player()
    playback.take(60, now=0.0)
    assert playback.room_in(piece, now) == seconds
