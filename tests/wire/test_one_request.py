"""One request to the origin for facts and bytes together, whatever its answer leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.fakes import faults
from tests.fakes.faults import Answer, Fault
from tests.wire.film import (
    ETAG,
    SIZE,
    TARGET,
    Expected,
    Part,
    PreconditionFailed,
    Unsatisfiable,
    Whole,
    check_film,
)
from tests.wire.http import check_error, exchange, request
from tests.wire.running import DESCRIBES, Asked, Site, opens, reads, requests
from tests.wire.table import covers, table


def refused(*, header: bool = False, document: bool = False) -> Fault:
    """S3's answer to a range beyond the end, with the size told in one way or another."""
    told = f"<ActualObjectSize>{SIZE}</ActualObjectSize>" if document else ""
    body = (
        "<Error><Code>InvalidRange</Code><Message>The requested range is not satisfiable</Message>"
        f"<RangeRequested>bytes=20000-</RangeRequested>{told}</Error>"
    ).encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    if header:
        headers.append(("Content-Range", f"bytes */{SIZE}"))
    return lambda _: Answer(416, tuple(headers), body)


def only_at_ranges(fault: Fault) -> Fault:
    return lambda answer: fault(answer) if answer.status in {206, 416} else answer


def whole_without_a_length(answer: Answer) -> Answer:
    return faults.chunked(faults.whole_object(answer))


@dataclass(frozen=True, slots=True)
class Row:
    """A way of an origin to answer its first GET, and what comes of it, here and there."""

    row: str
    what: str
    fault: Fault
    fields: tuple[str, ...]
    expected: Expected
    asked: tuple[Asked, ...]


def ranged(value: str, *more: str) -> tuple[str, ...]:
    return (f"Range: bytes={value}", *more)


BEYOND = opens("bytes=20000-")
ALL = reads(0, SIZE, ETAG)
OTHER = '"other"'
TOLD = {
    "header": refused(header=True),
    "document": refused(document=True),
    "both": refused(header=True, document=True),
}

CONDITIONS: tuple[tuple[str, str, Expected], ...] = (
    ("If-Match fails", f"If-Match: {OTHER}", PreconditionFailed()),
    ("If-Match holds", f"If-Match: {ETAG}", Unsatisfiable()),
    ("If-Range fails", f"If-Range: {OTHER}", Whole()),
    ("If-Range holds", f"If-Range: {ETAG}", Unsatisfiable()),
)

ROWS = (
    *(
        Row("1-start-beyond", f"size in {where}", fault, ranged("20000-"), Unsatisfiable(), asked)
        for where, fault, asked in [
            *((where, fault, (BEYOND,)) for where, fault in TOLD.items()),
            ("nothing", refused(), (BEYOND, DESCRIBES)),
        ]
    ),
    *(
        Row(
            "4-precedence",
            f"{what}, size in {where}",
            fault,
            ranged("20000-", condition),
            then,
            (BEYOND, DESCRIBES, ALL) if isinstance(then, Whole) else (BEYOND, DESCRIBES),
        )
        for where, fault in [*TOLD.items(), ("nothing", refused())]
        for what, condition, then in CONDITIONS
    ),
    *(
        Row(
            "1-suffix-too-long",
            f"refused, size in {where}",
            fault,
            ranged("-20000"),
            Part(0, SIZE),
            (opens("bytes=-20000"), DESCRIBES, ALL),
        )
        for where, fault in [*TOLD.items(), ("nothing", refused())]
    ),
    Row(
        "1-suffix-too-long",
        "sent whole",
        faults.whole_object,
        ranged("-20000"),
        Part(0, SIZE),
        (opens("bytes=-20000"),),
    ),
    Row(
        "1-all-of-it",
        "sent whole",
        faults.whole_object,
        ranged("0-20000"),
        Part(0, SIZE),
        (opens("bytes=0-20000"),),
    ),
    Row(
        "1-first-last",
        "status 200 and its Content-Range",
        faults.with_status(200),
        ranged("100-299"),
        Part(100, 300),
        (opens("bytes=100-299"),),
    ),
    Row(
        "1-suffix",
        "status 200 and its Content-Range",
        faults.with_status(200),
        ranged("-500"),
        Part(9500, SIZE),
        (opens("bytes=-500"),),
    ),
    Row(
        "1-first-last",
        "no length",
        faults.chunked,
        ranged("100-299"),
        Part(100, 300),
        (opens("bytes=100-299"),),
    ),
    Row(
        "1-all-of-it",
        "sent whole without a length",
        whole_without_a_length,
        ranged("0-9999"),
        Part(0, SIZE),
        (opens("bytes=0-9999"), DESCRIBES, ALL),
    ),
    Row(
        "1-start-beyond",
        "sent without bytes",
        faults.no_bytes_beyond,
        ranged("20000-"),
        Unsatisfiable(),
        (BEYOND, DESCRIBES),
    ),
    *(
        Row(
            "1-first-last",
            f"sent with {more} more, {how}",
            fault,
            ranged("100-299"),
            Part(100, 300),
            (opens("bytes=100-299"),),
        )
        for more in (1, 5000, 20000)
        for how, fault in (
            ("with a length", faults.longer_range(more)),
            ("without", faults.all_of(faults.longer_range(more), faults.chunked)),
        )
    ),
    Row(
        "1-first-last",
        "no total",
        faults.no_total,
        ranged("100-299"),
        Part(100, 300),
        (opens("bytes=100-299"), DESCRIBES, reads(100, 300, ETAG)),
    ),
    Row(
        "1-suffix",
        "no total",
        faults.no_total,
        ranged("-500"),
        Part(9500, SIZE),
        (opens("bytes=-500"), DESCRIBES, reads(9500, SIZE, ETAG)),
    ),
    Row("1-no-range", "no length", faults.chunked, (), Whole(), (opens(), DESCRIBES, ALL)),
)


@pytest.fixture
def behaving(films: Site) -> Iterator[Site]:
    yield films
    films.origin.behave()


@table(ROWS)
def test_what_one_answer_tells(behaving: Site, case: Row) -> None:
    behaving.origin.misbehave(case.fault, times=1)
    with behaving.asking() as asked:
        answer = exchange(behaving.address, request(TARGET, *case.fields))
    check_film(answer, case.expected)
    assert requests(asked) == list(case.asked)


UNUSABLE: dict[str, Fault] = {
    "whole": faults.whole_object,
    "206 without Content-Range": faults.header("Content-Range", None),
    "another span": faults.header("Content-Range", "bytes 101-300/10000"),
    "a longer span": faults.header("Content-Range", "bytes 100-300/10000"),
    "a shorter span": faults.header("Content-Range", "bytes 100-298/10000"),
    "a range before": faults.header("Content-Range", "bytes 99-298/10000"),
    "a range beyond the end": faults.header("Content-Range", "bytes 100-299/250"),
    "a range that ends before it begins": faults.header("Content-Range", "bytes 100-99/10000"),
    "another length": faults.both_lengths(1),
    "200, Content-Range, no length": faults.all_of(faults.with_status(200), faults.chunked),
    "no tag": faults.header("ETag", None),
    "a weak tag": faults.header("ETag", f"W/{ETAG}"),
}


@pytest.mark.parametrize("name", UNUSABLE)
@covers("1-first-last")
def test_what_proves_nothing_is_not_used(behaving: Site, name: str) -> None:
    behaving.origin.misbehave(UNUSABLE[name], times=1)
    with behaving.asking() as asked:
        answer = exchange(behaving.address, request(TARGET, "Range: bytes=100-299"))
    check_error(answer, 502, "origin_protocol_error")
    assert requests(asked) == [opens("bytes=100-299")]


def empty(answer: Answer) -> Answer:
    """Whatever the range: the whole of nothing."""
    headers = (("Content-Length", "0"), ("ETag", '"empty"'))
    return replace(answer, status=200, headers=headers, body=b"")


def unmeasured(answer: Answer) -> Answer:
    return faults.error(416, "InvalidRange")(answer)


@pytest.mark.parametrize(
    ("value", "once"),
    [
        ("0-", [opens()]),
        ("9-0", [DESCRIBES]),
        ("0--1", [opens()]),
        ("-0", [DESCRIBES]),
        ("0-0,5-9", [DESCRIBES]),
        ("0-0", [opens("bytes=0-0"), DESCRIBES]),
        ("5-9", [opens("bytes=5-9"), DESCRIBES]),
        ("-1", [opens("bytes=-1"), DESCRIBES]),
    ],
)
@pytest.mark.parametrize(
    "fault",
    [None, empty, unmeasured, faults.no_bytes_beyond],
    ids=["416", "200", "bare 416", "206"],
)
@covers("3-from-zero", "3-suffix", "3-inside")
def test_a_range_of_nothing(
    behaving: Site, value: str, once: list[Asked], fault: Fault | None
) -> None:
    if fault is not None:
        behaving.origin.misbehave(only_at_ranges(fault), key="empty.bin")
    with behaving.asking() as asked:
        answer = exchange(behaving.address, request("/empty.bin", f"Range: bytes={value}"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.fields["etag"] == '"empty"'
    assert answer.lacks("Content-Range")
    assert requests(asked) == once
