from __future__ import annotations

from rangeserver.cache.places import lock_byte, name_of, place_of, read_place


def test_names_of_objects() -> None:
    assert place_of("http://s3/", "films", "a b") == "http://s3 films a b"
    assert place_of("", "films", "a") == "aws films a"


def test_what_they_are_made_of() -> None:
    assert read_place(place_of("http://s3", "films", "a b")) == ("http://s3", "films", "a b")


def test_files_and_locks_of_objects() -> None:
    places = [place_of("", "films", str(number)) for number in range(1000)]
    assert len({name_of(place) for place in places}) == 1000
    assert all(0 <= lock_byte(place) < 1 << 56 for place in places)
