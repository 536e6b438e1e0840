"""Errors of this project: what is told once more is the same."""

from __future__ import annotations

import gc
import weakref

import pytest

from rangeserver.errors import OriginError, OriginUnreachable, RangeUnsatisfiable


def subclasses(kind: type[OriginError]) -> set[type[OriginError]]:
    return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))


OURS = [kind for kind in subclasses(OriginError) if kind.__module__ == OriginError.__module__]


@pytest.mark.parametrize("kind", sorted(OURS, key=str))
def test_an_error_told_again_has_its_class_and_all_its_fields(kind: type[OriginError]) -> None:
    error = kind("what happened")
    error.connecting = True
    error.headers = {"Retry-After": "3"}
    again = error.again()
    assert type(again) is kind
    assert again is not error
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_a_range_told_again_knows_the_size() -> None:
    again = RangeUnsatisfiable("beyond", size=10).again()
    assert (again.size, again.headers) == (10, {"Content-Range": "bytes */10"})


class OfItsOwn(OriginError):
    """One that is made in a way of its own."""

    def __init__(self, first: int, *, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.second = second


def test_an_error_told_again_may_be_made_in_any_way() -> None:
    again = OfItsOwn(1, second=2).again()
    assert (type(again), again.detail, again.second) == (OfItsOwn, "1 and 2", 2)


class Held:
    """What a frame holds on to."""


def failed() -> tuple[OriginError, weakref.ref[Held]]:
    held = Held()
    try:
        try:
            raise OSError
        except OSError as cause:
            raise OriginUnreachable from cause
    except OriginUnreachable as error:
        return error.again(), weakref.ref(held)


def test_an_error_told_again_holds_no_frame() -> None:
    gc.disable()
    try:
        again, held = failed()
        assert (again.__traceback__, again.__cause__, again.__context__) == (None, None, None)
        assert held() is None
    finally:
        gc.enable()
