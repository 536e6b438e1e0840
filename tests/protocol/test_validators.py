from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.protocol.validators import (
    EntityTag,
    format_http_date,
    parse_entity_tag,
    parse_entity_tags,
    parse_http_date,
)

NOW = 1_795_348_800  # Sun, 22 Nov 2026 12:00:00 GMT


def strong(opaque: str) -> EntityTag:
    return EntityTag(opaque)


def weak(opaque: str) -> EntityTag:
    return EntityTag(opaque, weak=True)


def at(*parts: int) -> int:
    year, month, day, hour, minute, second = parts
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())


ENTITY_TAGS = {
    "strong": ('"abc"', strong("abc")),
    "weak": ('W/"abc"', weak("abc")),
    "of a multipart upload": (
        '"d41d8cd98f00b204e9800998ecf8427e-38"',
        strong("d41d8cd98f00b204e9800998ecf8427e-38"),
    ),
    "empty": ('""', strong("")),
    "comma inside": ('"a,b"', strong("a,b")),
    "backslash is no escape": ('"a\\b"', strong("a\\b")),
    "obs-text": ('"caf\u00e9"', strong("caf\u00e9")),
    "no quotes": ("abc", None),
    "star": ("*", None),
    "nothing": ("", None),
    "weak in lower case": ('w/"abc"', None),
    "weak without quotes": ("W/abc", None),
    "blank after W/": ('W/ "abc"', None),
    "blank around": (' "abc"', None),
    "blank inside": ('"a b"', None),
    "control inside": ('"a\tb"', None),
    "DEL inside": ('"a\x7fb"', None),
    "line feed at the end": ('"abc"\n', None),
    "quote inside": ('"a"b"', None),
    "not closed": ('"abc', None),
    "one quote": ('"', None),
    "single quotes": ("'abc'", None),
    "a list": ('"a", "b"', None),
}


@pytest.mark.parametrize(("value", "expected"), ENTITY_TAGS.values(), ids=ENTITY_TAGS)
def test_entity_tag(value: str, expected: EntityTag | None) -> None:
    assert parse_entity_tag(value) == expected


COMPARISONS = [
    # The table of RFC 9110 §8.8.3.2: two tags, strong comparison, weak comparison.
    (weak("1"), weak("1"), False, True),
    (weak("1"), weak("2"), False, False),
    (weak("1"), strong("1"), False, True),
    (strong("1"), strong("1"), True, True),
    (strong("1"), strong("2"), False, False),
]


@pytest.mark.parametrize(("left", "right", "strongly", "weakly"), COMPARISONS)
def test_comparison_is_that_of_the_rfc_both_ways(
    left: EntityTag, right: EntityTag, strongly: bool, weakly: bool
) -> None:
    for one, other in [(left, right), (right, left)]:
        assert one.matches_strongly(other) is strongly
        assert one.matches_weakly(other) is weakly


LISTS = {
    "one": ('"a"', [strong("a")]),
    "several": ('"a", W/"b","c"', [strong("a"), weak("b"), strong("c")]),
    "comma inside a tag is data": ('"a,b", "c"', [strong("a,b"), strong("c")]),
    "tag that looks like two": ('"a\\",W/"b"', [strong("a\\"), weak("b")]),
    "empty members": (',, "a",,\t, "b" ,', [strong("a"), strong("b")]),
    "blanks around": (' \t"a" \t,\t "b" ', [strong("a"), strong("b")]),
    "nothing": ("", []),
    "commas only": (" , ,", []),
    "star": ("*", []),
    "bare word": ("abc", []),
    "bare word first": ('abc, "a"', []),
    "bare word last": ('"a", abc', [strong("a")]),
    "bare word between": ('"a", abc, "b"', [strong("a")]),
    "no comma between": ('"a" "b"', [strong("a")]),
    "no comma and no blank between": ('"a""b"', [strong("a")]),
    "star among tags": ('"a", *', [strong("a")]),
    "last not closed": ('"a", "b', [strong("a")]),
}


@pytest.mark.parametrize(("value", "expected"), LISTS.values(), ids=LISTS)
def test_list_is_read_up_to_its_first_malformed_member(
    value: str, expected: list[EntityTag]
) -> None:
    assert parse_entity_tags(value) == tuple(expected)


def expected_tags(text: str) -> tuple[EntityTag, ...]:
    """An oracle that peels the text from its front."""
    tags: list[EntityTag] = []
    while True:
        body = text.lstrip(" \t,")
        between = text[: len(text) - len(body)]
        if tags and "," not in between:
            break
        is_weak = body.startswith("W/")
        before, *opened = body[2 * is_weak :].split('"', maxsplit=2)
        if before or len(opened) < 2 or any(c <= " " or c == "\x7f" for c in opened[0]):
            break
        tags.append(EntityTag(opened[0], weak=is_weak))
        text = opened[1]
    return tuple(tags)


opaque_texts = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'), max_size=8
)
entity_tags = st.builds(EntityTag, opaque=opaque_texts, weak=st.booleans())


def written(tag: EntityTag) -> str:
    return ("W/" if tag.weak else "") + f'"{tag.opaque}"'


@given(tag=entity_tags)
def test_any_tag_is_read_back_as_written(tag: EntityTag) -> None:
    assert parse_entity_tag(written(tag)) == tag


@given(tags=st.lists(entity_tags, max_size=6), comma=st.sampled_from([",", ", ", " ,\t", ",,"]))
def test_any_list_is_read_back_as_written(tags: list[EntityTag], comma: str) -> None:
    assert parse_entity_tags(comma.join(map(written, tags))) == tuple(tags)


@given(text=st.one_of(st.text('"W/ab, \t*\x7f', max_size=30), st.text(max_size=30)))
def test_any_text_is_read_as_peeling_it_gives(text: str) -> None:
    expected = expected_tags(text)
    assert parse_entity_tags(text) == expected
    single = parse_entity_tag(text)
    assert single is None or expected == (single,)


THE_DATE = at(1994, 11, 6, 8, 49, 37)

DATES = {
    "IMF-fixdate": ("Sun, 06 Nov 1994 08:49:37 GMT", THE_DATE),
    "RFC 850": ("Sunday, 06-Nov-94 08:49:37 GMT", THE_DATE),
    "asctime": ("Sun Nov  6 08:49:37 1994", THE_DATE),
    "asctime, day of two digits": ("Sun Nov 06 08:49:37 1994", THE_DATE),
    "asctime, late day": ("Wed Nov 16 08:49:37 1994", THE_DATE + 10 * 86_400),
    "the epoch": ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    "before the epoch": ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
    "beyond 2038": ("Fri, 01 Jan 2100 00:00:00 GMT", at(2100, 1, 1, 0, 0, 0)),
    "last second of year 9999": ("Fri, 31 Dec 9999 23:59:59 GMT", at(9999, 12, 31, 23, 59, 59)),
    "leap day": ("Thu, 29 Feb 2024 00:00:00 GMT", at(2024, 2, 29, 0, 0, 0)),
    "leap second": ("Sat, 31 Dec 2016 23:59:60 GMT", at(2017, 1, 1, 0, 0, 0)),
    "weekday that is wrong": ("Mon, 06 Nov 1994 08:49:37 GMT", THE_DATE),
    "no leap day": ("Wed, 29 Feb 2023 00:00:00 GMT", None),
    "day 0": ("Sun, 00 Nov 1994 08:49:37 GMT", None),
    "day 31 of November": ("Sun, 31 Nov 1994 08:49:37 GMT", None),
    "day 32": ("Sun, 32 Dec 1994 08:49:37 GMT", None),
    "hour 24": ("Sun, 06 Nov 1994 24:00:00 GMT", None),
    "minute 60": ("Sun, 06 Nov 1994 08:60:37 GMT", None),
    "second 61": ("Sun, 06 Nov 1994 08:49:61 GMT", None),
    "year 0": ("Sun, 06 Nov 0000 08:49:37 GMT", None),
    "offset +0000": ("Sun, 06 Nov 1994 08:49:37 +0000", None),
    "offset -0000": ("Sun, 06 Nov 1994 08:49:37 -0000", None),
    "UTC": ("Sun, 06 Nov 1994 08:49:37 UTC", None),
    "no zone": ("Sun, 06 Nov 1994 08:49:37", None),
    "no weekday": ("06 Nov 1994 08:49:37 GMT", None),
    "day of one digit": ("Sun, 6 Nov 1994 08:49:37 GMT", None),
    "lower case": ("sun, 06 nov 1994 08:49:37 gmt", None),
    "unknown month": ("Sun, 06 Foo 1994 08:49:37 GMT", None),
    "fraction": ("Sun, 06 Nov 1994 08:49:37.000 GMT", None),
    "ISO 8601": ("1994-11-06T08:49:37Z", None),
    "seconds since the epoch": ("784111777", None),
    "blank at the end": ("Sun, 06 Nov 1994 08:49:37 GMT ", None),
    "line feed at the end": ("Sun, 06 Nov 1994 08:49:37 GMT\n", None),
    "Arabic digits": ("Sun, 0\u0666 Nov 1994 08:49:37 GMT", None),
    "entity tag": ('"abc"', None),
    "nothing": ("", None),
}


@pytest.mark.parametrize(("value", "expected"), DATES.values(), ids=DATES)
def test_http_date(value: str, expected: int | None) -> None:
    assert parse_http_date(value, now=NOW) == expected


TWO_DIGIT_YEARS = {
    "this year": ("Sunday, 22-Nov-26 12:00:00 GMT", at(2026, 11, 22, 12, 0, 0)),
    "last year": ("Saturday, 22-Nov-25 12:00:00 GMT", at(2025, 11, 22, 12, 0, 0)),
    "ahead": ("Monday, 22-Nov-27 12:00:00 GMT", at(2027, 11, 22, 12, 0, 0)),
    "50 years ahead": ("Sunday, 22-Nov-76 12:00:00 GMT", at(2076, 11, 22, 12, 0, 0)),
    "a second more": ("Sunday, 22-Nov-76 12:00:01 GMT", at(1976, 11, 22, 12, 0, 1)),
    "51 years ahead": ("Monday, 22-Nov-77 12:00:00 GMT", at(1977, 11, 22, 12, 0, 0)),
    "99": ("Monday, 22-Nov-99 12:00:00 GMT", at(1999, 11, 22, 12, 0, 0)),
    "leap day that 1976 has": ("Sunday, 29-Feb-76 00:00:00 GMT", at(2076, 2, 29, 0, 0, 0)),
    "leap day that 1977 lacks": ("Sunday, 29-Feb-77 00:00:00 GMT", None),
}


@pytest.mark.parametrize(("value", "expected"), TWO_DIGIT_YEARS.values(), ids=TWO_DIGIT_YEARS)
def test_year_of_two_digits_is_at_most_fifty_years_ahead(value: str, expected: int | None) -> None:
    assert parse_http_date(value, now=NOW) == expected


seconds = st.integers(at(1, 1, 1, 0, 0, 0), at(9999, 12, 31, 23, 59, 59))


@given(value=seconds)
def test_date_is_read_back_as_written(value: int) -> None:
    text = format_http_date(value)
    assert text.isascii()
    assert len(text) == 29
    assert parse_http_date(text, now=NOW) == value


@given(value=seconds)
def test_asctime_as_the_standard_library_writes_it_is_read(value: int) -> None:
    text = datetime.fromtimestamp(value, UTC).ctime()
    assert parse_http_date(text, now=NOW) == value


@given(now=st.integers(at(2000, 1, 1, 0, 0, 0), at(2049, 12, 31, 23, 59, 59)), data=st.data())
def test_rfc_850_as_the_standard_library_writes_it_is_read(now: int, data: st.DataObject) -> None:
    half_a_century = 50 * 365 * 86_400
    value = data.draw(st.integers(now - half_a_century + 86_400, now + half_a_century))
    text = f"{datetime.fromtimestamp(value, UTC):%A, %d-%b-%y %H:%M:%S GMT}"
    assert parse_http_date(text, now=now) == value


@given(text=st.one_of(st.text(), st.text("SunModay,-:0123456789 GMTNovFeb", max_size=32)))
def test_any_text_is_a_date_or_none(text: str) -> None:
    result = parse_http_date(text, now=NOW)
    assert result is None or isinstance(result, int)


@given(
    year=st.integers(0, 9999),
    month=st.integers(1, 12),
    day=st.integers(0, 39),
    clock=st.tuples(st.integers(0, 29), st.integers(0, 69), st.integers(0, 69)),
    form=st.sampled_from(["Sun, {d:02} {m} {y:04} {c} GMT", "Sun {m} {d:2} {c} {y:04}"]),
)
def test_only_a_date_that_exists_is_one(
    year: int, month: int, day: int, clock: tuple[int, int, int], form: str
) -> None:
    name = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * month - 3 : 3 * month]
    hour, minute, second = clock
    text = form.format(d=day, m=name, y=year, c=f"{hour:02}:{minute:02}:{second:02}")
    leap_second = second == 60
    expected: int | None
    try:
        expected = at(year, month, day, hour, minute, second - leap_second) + leap_second
    except ValueError:
        expected = None
    assert parse_http_date(text, now=NOW) == expected


def test_a_list_of_any_length_costs_no_more_than_a_long_one() -> None:
    assert len(parse_entity_tags('"",' * 300_000)) == 256
