from __future__ import annotations

import pytest

from rangeserver.protocol.response_head import response_head


def test_a_head_is_a_status_line_fields_and_an_empty_line() -> None:
    head = response_head((1, 1), 206, {"ETag": '"v1"', "Content-Length": "10"})
    assert head == b'HTTP/1.1 206 Partial Content\r\nETag: "v1"\r\nContent-Length: 10\r\n\r\n'


def test_the_version_is_the_one_given() -> None:
    assert response_head((1, 0), 200, {"A": "b"}).startswith(b"HTTP/1.0 200 OK\r\n")


def test_a_tab_may_stand_in_a_value() -> None:
    assert b"A: b\tc\r\n" in response_head((1, 1), 200, {"A": "b\tc"})


@pytest.mark.parametrize("character", ["\r", "\n", "\r\n", "\0", "\x1f", "\x7f"])
def test_a_value_cannot_end_its_field(character: str) -> None:
    with pytest.raises(ValueError, match="the field A has a control character"):
        response_head((1, 1), 200, {"A": f"b{character}X-Forged: c"})
