"""Where one request ends and the next begins, however the bytes come."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.process.intake import Intake

ONE = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
OTHER = b"HEAD /b HTTP/1.1\r\n\r\n"


@given(st.lists(st.integers(0, len(ONE + OTHER)), max_size=6))
def test_a_head_is_cut_where_it_ends(cuts: list[int]) -> None:
    intake = Intake()
    data, given_to_parser = ONE + OTHER, b""
    bounds = [0, *sorted(cuts), len(data)]
    for start, stop in itertools.pairwise(bounds):
        piece = data[start:stop]
        if given_to_parser.endswith(b"\r\n\r\n"):
            intake.ahead += piece
        elif piece:
            given_to_parser += intake.cut(piece)
    assert given_to_parser == ONE
    assert intake.head_bytes == len(ONE)
    assert intake.take_ahead() == OTHER
    assert intake.take_ahead() == b""


@pytest.mark.parametrize(("due", "of_body"), [(0, b""), (3, b"123"), (9, b"123456789")])
def test_a_body_is_cut_where_it_ends(due: int, of_body: bytes) -> None:
    intake = Intake()
    intake.body_due = due
    assert intake.cut_body(b"123456789" + ONE) == of_body
    assert intake.body_due == 0
    assert intake.take_ahead() == b"123456789"[due:] + ONE


def test_what_only_the_parser_can_cut_is_given_to_it() -> None:
    intake = Intake()
    intake.body_due = None
    assert intake.cut_body(b"0\r\n\r\n" + ONE) == b"0\r\n\r\n" + ONE
    assert intake.uncut
    assert not intake.ahead
