from __future__ import annotations

import string
import sys
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rangeserver.protocol import ranges
from rangeserver.protocol.ranges import COALESCE_GAP_BYTES, ByteSpan, parse_range, plain_span

N = 1000
MAX_RANGES = 16
IGNORED: None = None
UNSATISFIABLE: tuple[ByteSpan, ...] = ()

Spans = tuple[ByteSpan, ...] | None


def parse(value: str, size: int = N, max_ranges: int = MAX_RANGES) -> Spans:
    return parse_range(value, size, max_ranges=max_ranges)


def span(*bounds: tuple[int, int]) -> tuple[ByteSpan, ...]:
    return tuple(ByteSpan(start, stop) for start, stop in bounds)


ONE_RANGE = {
    "first to last": ("bytes=5-9", span((5, 10))),
    "one byte at the start": ("bytes=0-0", span((0, 1))),
    "the probe of Safari": ("bytes=0-1", span((0, 2))),
    "one byte at the end": ("bytes=999-999", span((999, 1000))),
    "one byte in the middle": ("bytes=500-500", span((500, 501))),
    "open end": ("bytes=10-", span((10, 1000))),
    "open end at the last byte": ("bytes=999-", span((999, 1000))),
    "suffix": ("bytes=-5", span((995, 1000))),
    "suffix of one": ("bytes=-1", span((999, 1000))),
    "suffix of all": ("bytes=-1000", span((0, 1000))),
    "suffix beyond the size": ("bytes=-1001", span((0, 1000))),
    "suffix of none": ("bytes=-0", UNSATISFIABLE),
    "suffix of none, many zeros": ("bytes=-000", UNSATISFIABLE),
    "first at the size": ("bytes=1000-", UNSATISFIABLE),
    "first at the size, closed": ("bytes=1000-1000", UNSATISFIABLE),
    "first far beyond the size": ("bytes=5000-6000", UNSATISFIABLE),
    "last at the size is clamped": ("bytes=990-1000", span((990, 1000))),
    "last beyond the size is clamped": ("bytes=990-5000", span((990, 1000))),
    "whole, closed": ("bytes=0-999", span((0, 1000))),
    "whole, open": ("bytes=0-", span((0, 1000))),
    "whole, too long": ("bytes=0-1004", span((0, 1000))),
    "reversed": ("bytes=9-5", UNSATISFIABLE),
    "reversed by one": ("bytes=10-9", UNSATISFIABLE),
    "reversed beyond the size": ("bytes=6000-5000", UNSATISFIABLE),
    "reversed with unequal digit counts": ("bytes=100-99", UNSATISFIABLE),
    "reversed by leading zeros": ("bytes=009-0005", UNSATISFIABLE),
    "letters": ("bytes=abc", IGNORED),
    "number without dash": ("bytes=5", IGNORED),
    "dash alone": ("bytes=-", IGNORED),
    "nothing after the unit": ("bytes=", IGNORED),
    "nothing at all": ("", IGNORED),
    "two dashes": ("bytes=--5", IGNORED),
    "negative last": ("bytes=0--1", IGNORED),
    "three numbers": ("bytes=1-2-3", IGNORED),
    "dash on both sides": ("bytes=-1-", IGNORED),
    "with a size": ("bytes=0-4/10", IGNORED),
    "as in Content-Range": ("bytes 0-4", IGNORED),
    "colon": ("bytes: 0-4", IGNORED),
    "no unit": ("0-4", IGNORED),
    "empty unit": ("=0-4", IGNORED),
    "unknown unit": ("seconds=0-4", IGNORED),
    "unit as a prefix": ("bytesx=0-4", IGNORED),
    "two equals signs": ("bytes==0-4", IGNORED),
    "unit in title case": ("Bytes=0-4", span((0, 5))),
    "unit in upper case": ("BYTES=0-4", span((0, 5))),
    "unit with a long s": ("byte\u017f=0-4", IGNORED),
    "spaces around the dash": ("bytes=0 - 4", IGNORED),
    "space before the equals sign": ("bytes =0-4", IGNORED),
    "space before the unit": (" bytes=0-4", IGNORED),
    "other white space around": ("bytes=\x0b0-4", IGNORED),
    "empty members around": ("bytes=,5-9,", span((5, 10))),
    "empty members with blanks": ("bytes= , 5-9 ,\t", span((5, 10))),
    "empty members only": ("bytes=,,,", IGNORED),
    "last of 2^63": ("bytes=5-9223372036854775808", span((5, 1000))),
    "last of 10^22": ("bytes=5-10000000000000000000000", span((5, 1000))),
    "suffix of 10^22": ("bytes=-10000000000000000000000", span((0, 1000))),
    "first of 2^63": ("bytes=9223372036854775808-", UNSATISFIABLE),
    "first of 10^22": ("bytes=10000000000000000000000-", UNSATISFIABLE),
    "both of 10^22": ("bytes=10000000000000000000000-10000000000000000000001", UNSATISFIABLE),
    "both huge, reversed": ("bytes=10000000000000000000001-10000000000000000000000", UNSATISFIABLE),
    "last of 5000 digits": (f"bytes=5-{'9' * 5000}", span((5, 1000))),
    "suffix of 5000 digits": (f"bytes=-{'9' * 5000}", span((0, 1000))),
    "first of 5000 digits": (f"bytes={'9' * 5000}-", UNSATISFIABLE),
    "both of 5000 digits": (f"bytes={'8' * 5000}-{'9' * 5000}", UNSATISFIABLE),
    "5000 zeros before the numbers": (f"bytes={'0' * 5000}5-{'0' * 5000}9", span((5, 10))),
    "leading zeros": ("bytes=0005-0009", span((5, 10))),
    "leading zeros do not reverse": ("bytes=00000000005-9", span((5, 10))),
    "plus signs": ("bytes=+0-+4", IGNORED),
    "underscores": ("bytes=1_0-2_0", IGNORED),
    "Arabic digits": ("bytes=\u0660-\u0664", IGNORED),
    "Arabic digit alone": ("bytes=\u0660-", IGNORED),
    "Arabic digit last": ("bytes=0-\u0664", IGNORED),
    "fullwidth digits": ("bytes=\uff10-\uff14", IGNORED),
    "superscript digit": ("bytes=0-\u00b2", IGNORED),
    "line feed at the end": ("bytes=0-4\n", IGNORED),
    "NUL at the end": ("bytes=0-4\x00", IGNORED),
    "no-break space": ("bytes=\u00a00-4", IGNORED),
    "hexadecimal": ("bytes=0x0-0x4", IGNORED),
    "decimal point": ("bytes=0.0-4.0", IGNORED),
    "semicolon": ("bytes=0-4;5-9", IGNORED),
}


@pytest.mark.parametrize(("value", "expected"), ONE_RANGE.values(), ids=ONE_RANGE)
def test_one_range(value: str, expected: Spans) -> None:
    assert parse(value) == expected


SEVERAL_RANGES = {
    "two": ("bytes=0-4,500-504", span((0, 5), (500, 505))),
    "order is kept": ("bytes=500-504,0-4", span((500, 505), (0, 5))),
    "tabs and spaces around commas": ("bytes=0-4\t, \t500-504", span((0, 5), (500, 505))),
    "empty members between": ("bytes=0-4,, ,500-504", span((0, 5), (500, 505))),
    "mixed forms": ("bytes=-5,0-4,900-905", span((995, 1000), (0, 5), (900, 906))),
    "one unsatisfiable": ("bytes=5-9,5000-", span((5, 10))),
    "one unsatisfiable suffix": ("bytes=-0,5-9", span((5, 10))),
    "all unsatisfiable": ("bytes=1000-,5000-6000,-0", UNSATISFIABLE),
    "one malformed": ("bytes=0-4,abc", IGNORED),
    "one malformed among unsatisfiable": ("bytes=5000-,--1", IGNORED),
    "one reversed": ("bytes=0-4,9-5", IGNORED),
    "one reversed, one unsatisfiable": ("bytes=9-5,5000-", IGNORED),
    "both reversed": ("bytes=9-5,3-1", IGNORED),
    "reversed alone among empty members": ("bytes=,9-5 ,", UNSATISFIABLE),
    "semicolons inside": ("bytes=0-4,5;6-9", IGNORED),
    "blank inside a member": ("bytes=0-4 5-9,20-30", IGNORED),
    "overlapping": ("bytes=0-9,5-19", span((0, 20))),
    "one inside the other": ("bytes=0-99,10-19", span((0, 100))),
    "equal": ("bytes=5-9,5-9", span((5, 10))),
    "adjacent": ("bytes=0-9,10-19", span((0, 20))),
    "adjacent, descending": ("bytes=10-19,0-9", span((0, 20))),
    "gap of 79": ("bytes=0-9,89-99", span((0, 100))),
    "gap of 80": ("bytes=0-9,90-99", span((0, 10), (90, 100))),
    "a chain of small gaps": ("bytes=0-9,160-169,80-89", span((0, 170))),
    "joined where first asked": ("bytes=500-509,0-9,505-514", span((500, 515), (0, 10))),
    "joined where first asked, backwards": (
        "bytes=505-514,0-9,500-509",
        span((500, 515), (0, 10)),
    ),
    "joined where first asked, third": ("bytes=0-9,500-509,5-14", span((0, 15), (500, 510))),
    "each open to the end": ("bytes=0-,1-,2-", IGNORED),
    "sum above the size": ("bytes=0-599,400-999", IGNORED),
    "sum equal to the size": ("bytes=0-499,500-999", span((0, 1000))),
    "sum counted after the clamp": ("bytes=0-499,500-99999", span((0, 1000))),
    "whole and nothing": ("bytes=0-999,1000-", span((0, 1000))),
    "Apache killer": ("bytes=0-" + "".join(f",5-{i}" for i in range(1300)), IGNORED),
}


@pytest.mark.parametrize(("value", "expected"), SEVERAL_RANGES.values(), ids=SEVERAL_RANGES)
def test_several_ranges(value: str, expected: Spans) -> None:
    assert parse(value) == expected


@pytest.mark.parametrize(
    "value", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-9", "bytes=9-5", "bytes=0--1"]
)
def test_range_of_an_empty_object_is_ignored(value: str) -> None:
    assert parse(value, size=0) is IGNORED


def test_as_many_ranges_as_allowed_are_served_and_one_more_is_ignored() -> None:
    members = [f"{100 * i}-{100 * i}" for i in range(4)]
    allowed = parse("bytes=" + ",".join(members[:3]), max_ranges=3)
    assert allowed == span((0, 1), (100, 101), (200, 201))
    assert parse("bytes=" + ",".join(members), max_ranges=3) is IGNORED


def test_empty_members_count_towards_the_limit() -> None:
    assert parse("bytes=0-4,,", max_ranges=3) == span((0, 5))
    assert parse("bytes=0-4,,,", max_ranges=3) is IGNORED


def test_span_writes_inclusive_ends() -> None:
    part = ByteSpan(5, 10)
    assert part.length == 5
    assert part.content_range(1000) == "bytes 5-9/1000"
    assert part.range_header() == "bytes=5-9"
    assert parse(part.range_header()) == (part,)


# An oracle that marks single bytes instead of comparing bounds.


def expected_spans(value: str, size: int, max_ranges: int) -> Spans:
    members = [member.strip(" \t") for member in value[6:].split(",")]
    if value[:6].lower() != "bytes=" or not size or not any(members) or len(members) > max_ranges:
        return None
    asked: list[set[int]] = []
    for member in filter(None, members):
        first, dash, last = member.partition("-")
        if not dash or not first + last or set(first + last) - set(string.digits):
            return None
        if first and last and int(first) > int(last):
            return () if len(list(filter(None, members))) == 1 else None
        if first:
            end = int(last) if last else size
            asked.append({offset for offset in range(size) if int(first) <= offset <= end})
        else:
            asked.append({offset for offset in range(size) if offset >= size - int(last)})
    if sum(map(len, asked)) > size:
        return None
    wanted = sorted(set().union(*asked))
    runs: list[list[int]] = []
    for offset in wanted:
        if runs and offset - runs[-1][-1] <= COALESCE_GAP_BYTES:
            runs[-1].append(offset)
        else:
            runs.append([offset])
    runs.sort(key=lambda run: min(i for i, part in enumerate(asked) if part & set(run)))
    return tuple(ByteSpan(run[0], run[-1] + 1) for run in runs)


sizes = st.integers(0, 400)
numbers = st.one_of(
    st.integers(0, 420).map(str),
    st.integers(0, 420).map(lambda n: f"00{n}"),
    st.text(string.digits, min_size=18, max_size=24),
)
members = st.one_of(
    st.tuples(numbers, numbers).map("-".join),
    st.tuples(st.integers(0, 400), st.integers(0, 30)).map(lambda t: f"{t[0]}-{t[0] + t[1]}"),
    numbers.map(lambda n: f"-{n}"),
    st.integers(1, 20).map(lambda n: f"-{n}"),
    numbers.map(lambda n: f"{n}-"),
    st.just(""),
)
commas = st.sampled_from([",", ", ", " ,\t"])


@st.composite
def fields(draw: st.DrawFn) -> str:
    """A Range value by the grammar, though its numbers may be reversed or huge."""
    parts = draw(st.lists(members, min_size=1, max_size=6))
    unit = draw(st.sampled_from(["bytes", "bytes", "bytes", "Bytes", "BYTES", "items"]))
    return f"{unit}=" + draw(commas).join(parts)


@st.composite
def mutated_fields(draw: st.DrawFn) -> str:
    """A Range value with one stretch replaced by something else."""
    value = draw(fields())
    start = draw(st.integers(0, len(value)))
    stop = draw(st.integers(start, min(start + 3, len(value))))
    junk = draw(st.text("0123456789-,= \tbytesB+_\n\u0661\u00b2\xa0", max_size=3))
    return value[:start] + junk + value[stop:]


@given(value=st.one_of(fields(), mutated_fields()), size=sizes, max_ranges=st.integers(1, 6))
@example(value="bytes=0-9,100-109,50-59", size=400, max_ranges=3)
@example(value="bytes=300-309,0-9,100-109,385-385", size=400, max_ranges=6)
def test_result_is_what_marking_single_bytes_gives(value: str, size: int, max_ranges: int) -> None:
    assert parse(value, size, max_ranges) == expected_spans(value, size, max_ranges)


@given(
    value=st.one_of(
        fields(),
        mutated_fields(),
        st.text(),
        st.text(st.characters(), max_size=40).map(lambda text: f"bytes={text}"),
        st.text("0123456789-, ").map(lambda text: f"bytes={text}"),
    ),
    size=st.one_of(sizes, st.integers(0, 5 * 2**40)),
)
def test_any_text_is_answered_with_spans_inside_the_object(value: str, size: int) -> None:
    result = parse(value, size)
    if not result:
        return
    assert len(result) <= MAX_RANGES
    assert all(0 <= part.start < part.stop <= size for part in result)
    ascending = sorted(result)
    gaps = [right.start - left.stop for left, right in pairwise(ascending)]
    assert all(gap >= COALESCE_GAP_BYTES for gap in gaps)


# The work done for a field, counted and not timed.


def calls_made_by(action: Callable[[], object]) -> int:
    count = 0

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("order", [1, -1], ids=["ascending", "descending"])
@pytest.mark.parametrize("step", [1, 200], ids=["all joined", "none joined"])
def test_work_grows_with_the_number_of_ranges_and_not_with_its_square(
    order: int, step: int
) -> None:
    def work(count: int) -> int:
        asked = [f"{step * i}-{step * i}" for i in range(count)][::order]
        value = "bytes=" + ",".join(asked)
        return calls_made_by(lambda: parse(value, size=10**9, max_ranges=count))

    assert work(2000) < 2.5 * work(1000)


def test_a_field_with_too_many_members_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str, size: int) -> None:
        pytest.fail(f"parsed {text!r} of {size}")

    monkeypatch.setattr(ranges, "_parse_member", refuse)
    assert parse("bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1))) is IGNORED


def test_no_number_is_converted_before_its_digits_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converted: list[str] = []

    def counting_int(digits: str) -> int:
        converted.append(digits)
        return int(digits)

    monkeypatch.setattr(ranges, "int", counting_int, raising=False)
    assert parse(f"bytes={'0' * 4000}7-{'9' * 4000},-{'9' * 19},-{'9' * 20}") is IGNORED
    assert sorted(converted, key=len) == ["7", "9" * 19]


@given(
    fields() | mutated_fields() | st.builds("bytes={}-{}".format, numbers, numbers),
    sizes,
)
@example("bytes=0-0", 0)
@example("bytes=5-4", 10)
@example("bytes=10-", 10)
@example("bytes=0-999999999999999999", 10)
@example("bytes=٣-٤", 10)
def test_the_short_cut_leads_to_the_same_span(value: str, size: int) -> None:
    span = plain_span(value, size)
    assert span is None or parse_range(value, size, max_ranges=5) == (span,)


@pytest.mark.parametrize("value", ["bytes=0-0", "bytes=0-", "bytes=7-99", "bytes=7-100000"])
def test_the_short_cut_knows_the_usual_forms(value: str) -> None:
    assert parse_range(value, 100, max_ranges=5) == (plain_span(value, 100),)
