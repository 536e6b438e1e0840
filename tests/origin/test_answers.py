"""What an answer proves to carry."""

from __future__ import annotations

import pytest

from rangeserver.errors import ObjectChanged, OriginProtocolError
from rangeserver.origin.answers import (
    Carried,
    check_read,
    described,
    facts_of,
    opened_span,
    total_size,
)
from rangeserver.origin.asking import Answer
from rangeserver.protocol.ranges import AskedRange, ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey

KEY = ObjectKey("a.mp4")
FACTS = ObjectFacts(KEY, 100, '"v1"')


def answer(status: int, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"etag": '"v1"', **named}, None)


def part(told: str, length: int | None, status: int = 206, **headers: str) -> Answer:
    lengths = {} if length is None else {"content_length": str(length)}
    return answer(status, content_range=told, **lengths, **headers)


SECOND = AskedRange(10, 19)


@pytest.mark.parametrize(
    ("wanted", "got", "carried"),
    [
        (None, answer(200, content_length="100"), Carried(100, ByteSpan(0, 100))),
        (None, answer(200, content_length="0"), Carried(0, ByteSpan(0, 0))),
        (SECOND, part("bytes 10-19/100", 10), Carried(100, ByteSpan(10, 20))),
        (SECOND, part("bytes 10-19/100", None), Carried(100, ByteSpan(10, 20))),
        (AskedRange(10, None), part("bytes 10-99/100", 90), Carried(100, ByteSpan(10, 100))),
        (AskedRange(None, 5), part("bytes 95-99/100", 5), Carried(100, ByteSpan(95, 100))),
        # The end of what is asked for lies behind that of the object.
        (AskedRange(90, 199), part("bytes 90-99/100", 10), Carried(100, ByteSpan(90, 100))),
        # Some send more than was asked for, and some say 200 of a part.
        (SECOND, part("bytes 10-29/100", 20), Carried(100, ByteSpan(10, 20), 10)),
        (SECOND, part("bytes 10-19/100", 10, 200), Carried(100, ByteSpan(10, 20))),
        # A 200 to whoever asked for all has no range (RFC 9110 §14.4).
        (None, part("bytes 10-19/100", 100, 200), Carried(100, ByteSpan(0, 100))),
    ],
)
def test_what_an_answer_carries(wanted: AskedRange | None, got: Answer, carried: Carried) -> None:
    assert opened_span(got, wanted) == carried


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (None, answer(200)),
        (SECOND, answer(200, content_length="0")),
        (SECOND, part("bytes 10-19/*", 10)),
        (AskedRange(100, None), part("bytes 100-99/100", 0)),
    ],
)
def test_what_a_head_has_to_settle(wanted: AskedRange | None, got: Answer) -> None:
    assert opened_span(got, wanted) is None


def test_a_total_that_is_not_told_may_be_known() -> None:
    assert opened_span(part("bytes 10-19/*", 10), SECOND, 100) == Carried(100, ByteSpan(10, 20))


@pytest.mark.parametrize(
    "got",
    [
        answer(200, content_length="100"),  # all of it, whatever was asked for
        answer(206, content_length="10"),
        part("bytes 11-19/100", 9),
        part("bytes 10-18/100", 9),
        part("bytes 10-19/15", 10),
        part("bytes 10-19/100", 11),
        part("bytes 10-19/100", 10, 204),
        part("octets 10-19/100", 10),
    ],
)
def test_anything_else_is_refused(got: Answer) -> None:
    with pytest.raises(OriginProtocolError, match=r"asked for bytes=10-19: answer 20"):
        opened_span(got, SECOND)


def test_a_read_is_of_the_version_that_is_known() -> None:
    span = ByteSpan(10, 20)
    assert check_read(part("bytes 10-19/100", 10), FACTS, span) == Carried(100, span)
    other = Answer(206, {**part("bytes 10-19/100", 10).headers, "etag": '"v2"'}, None)
    with pytest.raises(ObjectChanged) as raised:
        check_read(other, FACTS, span)
    assert raised.value.headers["Retry-After"]


@pytest.mark.parametrize(
    "got",
    [
        part("bytes 10-19/101", 10),
        part("bytes 10-19/100", 10, content_encoding="gzip"),
        Answer(206, {"content-range": "bytes 10-19/100"}, None),  # of no version
    ],
)
def test_a_read_of_something_else_is_refused(got: Answer) -> None:
    with pytest.raises(OriginProtocolError):
        check_read(got, FACTS, ByteSpan(10, 20))


def test_facts_of_an_answer() -> None:
    assert described(KEY, answer(200, content_length="100")) == FACTS
    assert facts_of(KEY, answer(206).headers, 100) == FACTS
    assert total_size(part("bytes 10-19/100", 10).headers) == 100
    with pytest.raises(OriginProtocolError, match="HEAD answered 206"):
        described(KEY, answer(206))
    with pytest.raises(OriginProtocolError, match="does not tell the object's size"):
        described(KEY, answer(200))
