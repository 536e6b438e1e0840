"""Wire table, section 4: preconditions, and If-Range."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import formatdate

from tests.wire.film import (
    ETAG,
    MODIFIED,
    SIZE,
    TARGET,
    WEAK_ETAG,
    Expected,
    Missing,
    NotModified,
    Part,
    PreconditionFailed,
    Unsatisfiable,
    Whole,
    check_film,
)
from tests.wire.http import exchange, request
from tests.wire.running import DESCRIBES, Asked, Site, opens, reads, requests
from tests.wire.table import covers, table


@dataclass(frozen=True, slots=True)
class Row:
    """Fields of a request, and what must come of them, by GET and, if not ranged, by HEAD."""

    row: str
    what: str
    fields: tuple[str, ...]
    expected: Expected
    target: str = TARGET


EARLIER = "Tue, 31 Dec 2024 23:59:59 GMT"
LATER = "Wed, 01 Jan 2025 00:00:01 GMT"
RFC_850 = "Wednesday, 01-Jan-25 00:00:00 GMT"
ASCTIME = "Wed Jan  1 00:00:00 2025"
OTHER = '"other"'
RANGE = "Range: bytes=0-9"
FIRST = Part(0, 10)
BEYOND = "Range: bytes=10000-"
BAD = "Range: bytes=x"
REVERSED = "Range: bytes=9-0"
ABSENT = "/absent.mp4"
MOSTLY_304 = ("If-None-Match:", "If-Modified-Since:")

ROWS = (
    # Step 1 and 2 decide on 412, 3 and 4 on 304, 5 on the range.
    Row(
        "4-order",
        "If-Match before If-None-Match",
        (f"If-Match: {OTHER}", f"If-None-Match: {ETAG}"),
        PreconditionFailed(),
    ),
    Row(
        "4-order",
        "true If-Match, then If-None-Match",
        (f"If-Match: {ETAG}", f"If-None-Match: {ETAG}"),
        NotModified(),
    ),
    Row(
        "4-order",
        "If-Match hides a false If-Unmodified-Since",
        (f"If-Match: {ETAG}", f"If-Unmodified-Since: {EARLIER}"),
        Whole(),
    ),
    Row(
        "4-order",
        "true If-Unmodified-Since saves no false If-Match",
        (f"If-Match: {OTHER}", f"If-Unmodified-Since: {LATER}"),
        PreconditionFailed(),
    ),
    Row(
        "4-order",
        "If-None-Match hides If-Modified-Since",
        (f"If-None-Match: {OTHER}", f"If-Modified-Since: {LATER}"),
        Whole(),
    ),
    Row(
        "4-order",
        "If-None-Match decides before If-Modified-Since",
        (f"If-None-Match: {ETAG}", f"If-Modified-Since: {EARLIER}"),
        NotModified(),
    ),
    Row(
        "4-order",
        "If-Unmodified-Since before If-None-Match",
        (f"If-Unmodified-Since: {EARLIER}", f"If-None-Match: {ETAG}"),
        PreconditionFailed(),
    ),
    Row(
        "4-order",
        "If-Unmodified-Since before If-Modified-Since",
        (f"If-Unmodified-Since: {EARLIER}", f"If-Modified-Since: {LATER}"),
        PreconditionFailed(),
    ),
    Row(
        "4-order",
        "all true, then the range",
        (f"If-Match: {ETAG}", f"If-None-Match: {OTHER}", f"If-Range: {ETAG}", RANGE),
        FIRST,
    ),
    Row("4-if-none-match", "equal", (f"If-None-Match: {ETAG}",), NotModified()),
    Row("4-if-none-match", "other", (f"If-None-Match: {OTHER}",), Whole()),
    Row("4-if-none-match", "in a list", (f'If-None-Match: "a", {ETAG}, "b"',), NotModified()),
    Row("4-if-none-match", "not in a list", ('If-None-Match: "a", "b"',), Whole()),
    Row("4-if-none-match", "weak", (f"If-None-Match: {WEAK_ETAG}",), NotModified()),
    Row("4-if-none-match", "weak in a list", (f'If-None-Match: W/"a",{WEAK_ETAG}',), NotModified()),
    Row("4-if-none-match", "any", ("If-None-Match: *",), NotModified()),
    Row("4-if-none-match", "comma in a tag", (f'If-None-Match: "a,b", {ETAG}',), NotModified()),
    Row("4-if-none-match", "comma makes no tag", (f'If-None-Match: "a,{ETAG[1:-1]},b"',), Whole()),
    Row("4-if-none-match", "empty members", (f"If-None-Match: , ,{ETAG},",), NotModified()),
    Row(
        "4-if-none-match-lines",
        "second",
        ('If-None-Match: "a"', f"If-None-Match: {ETAG}"),
        NotModified(),
    ),
    Row(
        "4-if-none-match-lines",
        "first",
        (f"If-None-Match: {ETAG}", 'If-None-Match: "a"'),
        NotModified(),
    ),
    Row("4-if-none-match-lines", "neither", ('If-None-Match: "a"', 'If-None-Match: "b"'), Whole()),
    Row("4-if-match", "equal", (f"If-Match: {ETAG}",), Whole()),
    Row("4-if-match", "other", (f"If-Match: {OTHER}",), PreconditionFailed()),
    Row("4-if-match", "weak", (f"If-Match: {WEAK_ETAG}",), PreconditionFailed()),
    Row("4-if-match", "in a list", (f"If-Match: {OTHER}, {ETAG}",), Whole()),
    Row("4-if-match", "not in a list", ('If-Match: "a", "b"',), PreconditionFailed()),
    Row("4-if-match", "on two lines", (f"If-Match: {OTHER}", f"If-Match: {ETAG}"), Whole()),
    Row("4-if-match", "any", ("If-Match: *",), Whole()),
    Row("4-if-match", "bare", (f"If-Match: {ETAG[1:-1]}",), PreconditionFailed()),
    Row(
        "4-if-modified-since", "the same second", (f"If-Modified-Since: {MODIFIED}",), NotModified()
    ),
    Row("4-if-modified-since", "later", (f"If-Modified-Since: {LATER}",), NotModified()),
    Row("4-if-modified-since", "earlier", (f"If-Modified-Since: {EARLIER}",), Whole()),
    Row("4-if-modified-since", "garbage", ("If-Modified-Since: yesterday",), Whole()),
    Row(
        "4-if-modified-since",
        "no such day",
        ("If-Modified-Since: Wed, 31 Feb 2035 00:00:00 GMT",),
        Whole(),
    ),
    Row(
        "4-if-modified-since",
        "an offset",
        ("If-Modified-Since: Wed, 01 Jan 2025 00:00:00 -0000",),
        Whole(),
    ),
    Row(
        "4-if-modified-since",
        "twice",
        (f"If-Modified-Since: {LATER}", f"If-Modified-Since: {LATER}"),
        Whole(),
    ),
    Row(
        "4-if-unmodified-since",
        "earlier",
        (f"If-Unmodified-Since: {EARLIER}",),
        PreconditionFailed(),
    ),
    Row("4-if-unmodified-since", "the same second", (f"If-Unmodified-Since: {MODIFIED}",), Whole()),
    Row("4-if-unmodified-since", "later", (f"If-Unmodified-Since: {LATER}",), Whole()),
    Row("4-if-unmodified-since", "garbage", ("If-Unmodified-Since: 0",), Whole()),
    Row(
        "4-date-forms",
        "RFC 850, If-Modified-Since",
        (f"If-Modified-Since: {RFC_850}",),
        NotModified(),
    ),
    Row(
        "4-date-forms",
        "asctime, If-Modified-Since",
        (f"If-Modified-Since: {ASCTIME}",),
        NotModified(),
    ),
    Row(
        "4-date-forms",
        "RFC 850, If-Unmodified-Since",
        ("If-Unmodified-Since: Tuesday, 31-Dec-24 23:59:59 GMT",),
        PreconditionFailed(),
    ),
    Row(
        "4-date-forms",
        "asctime, If-Unmodified-Since",
        ("If-Unmodified-Since: Tue Dec 31 23:59:59 2024",),
        PreconditionFailed(),
    ),
    Row("4-date-forms", "RFC 850, If-Range", (f"If-Range: {RFC_850}", RANGE), FIRST),
    Row("4-date-forms", "asctime, If-Range", (f"If-Range: {ASCTIME}", RANGE), FIRST),
    Row("4-precedence", "304 before 206", (f"If-None-Match: {ETAG}", RANGE), NotModified()),
    Row(
        "4-precedence",
        "304 by date before 206",
        (f"If-Modified-Since: {MODIFIED}", RANGE),
        NotModified(),
    ),
    Row("4-precedence", "304 before 416", (f"If-None-Match: {ETAG}", BEYOND), NotModified()),
    Row("4-precedence", "412 before 206", (f"If-Match: {OTHER}", RANGE), PreconditionFailed()),
    Row("4-precedence", "412 before 416", (f"If-Match: {OTHER}", BEYOND), PreconditionFailed()),
    Row(
        "4-precedence",
        "412 before 304 and 416",
        (f"If-Match: {OTHER}", f"If-None-Match: {ETAG}", BEYOND),
        PreconditionFailed(),
    ),
    Row(
        "4-precedence",
        "conditions true, 416",
        (f"If-Match: {ETAG}", f"If-None-Match: {OTHER}", BEYOND),
        Unsatisfiable(),
    ),
    Row(
        "4-precedence",
        "304 before a reversed range",
        (f"If-None-Match: {ETAG}", REVERSED),
        NotModified(),
    ),
    Row("4-missing", "If-Match", ("If-Match: *",), Missing(), ABSENT),
    Row("4-missing", "If-None-Match any", ("If-None-Match: *",), Missing(), ABSENT),
    Row("4-missing", "Range", (RANGE,), Missing(), ABSENT),
    Row(
        "4-missing", "If-Unmodified-Since", (f"If-Unmodified-Since: {EARLIER}",), Missing(), ABSENT
    ),
    Row("4-missing", "If-Range", (f"If-Range: {ETAG}", RANGE), Missing(), ABSENT),
    Row("4-if-range-equal", "", (f"If-Range: {ETAG}", RANGE), FIRST),
    Row("4-if-range-equal", "416", (f"If-Range: {ETAG}", BEYOND), Unsatisfiable()),
    Row("4-if-range-other", "", (f"If-Range: {OTHER}", RANGE), Whole()),
    Row("4-if-range-weak", "", (f"If-Range: {WEAK_ETAG}", RANGE), Whole()),
    Row("4-if-range-weak", "lower case", (f"If-Range: w/{ETAG}", RANGE), Whole()),
    Row("4-if-range-date", "", (f"If-Range: {MODIFIED}", RANGE), FIRST),
    Row("4-if-range-date-later", "", (f"If-Range: {LATER}", RANGE), Whole()),
    Row("4-if-range-date-later", "earlier", (f"If-Range: {EARLIER}", RANGE), Whole()),
    Row("4-if-range-garbage", "word", ("If-Range: tomorrow", RANGE), Whole()),
    Row("4-if-range-garbage", "any", ("If-Range: *", RANGE), Whole()),
    Row("4-if-range-garbage", "bare tag", (f"If-Range: {ETAG[1:-1]}", RANGE), Whole()),
    Row("4-if-range-garbage", "list", (f"If-Range: {ETAG}, {OTHER}", RANGE), Whole()),
    Row(
        "4-if-range-garbage",
        "two lines",
        (f"If-Range: {ETAG}", f"If-Range: {ETAG}", RANGE),
        Whole(),
    ),
    Row("4-if-range-garbage", "empty", ("If-Range:", RANGE), Whole()),
    Row("4-if-range-false", "unsatisfiable", (f"If-Range: {OTHER}", BEYOND), Whole()),
    Row("4-if-range-false", "malformed", (f"If-Range: {OTHER}", BAD), Whole()),
    Row(
        "4-if-range-false", "suffix of nothing", (f"If-Range: {LATER}", "Range: bytes=-0"), Whole()
    ),
    Row("4-if-range-false", "reversed", (f"If-Range: {OTHER}", REVERSED), Whole()),
    Row("4-if-range-equal", "reversed", (f"If-Range: {ETAG}", REVERSED), Unsatisfiable()),
    Row("4-if-range-alone", "equal", (f"If-Range: {ETAG}",), Whole()),
    Row("4-if-range-alone", "other", (f"If-Range: {OTHER}",), Whole()),
    Row("4-etag", "", (), Whole()),
    Row("4-whole-seconds", "If-Modified-Since", (f"If-Modified-Since: {MODIFIED}",), NotModified()),
    Row("4-whole-seconds", "If-Unmodified-Since", (f"If-Unmodified-Since: {MODIFIED}",), Whole()),
    Row(
        "4-whole-seconds",
        "a fraction is no date",
        ("If-Modified-Since: Wed, 01 Jan 2025 00:00:00.5 GMT",),
        Whole(),
    ),
)


@table(ROWS)
def test_precondition(films: Site, case: Row) -> None:
    with films.asking() as asked:
        answer = exchange(films.address, request(case.target, *case.fields))
    check_film(answer, case.expected)
    # The server decides, from facts it asked for plainly; the client's conditions stay here.
    assert without_probe(requests(asked), case.expected) == expected_requests(case)


def expected_requests(case: Row) -> list[Asked]:
    """One request for facts and bytes, and more of them only for what its answer leaves open."""
    wanted = [line.removeprefix("Range: ") for line in case.fields if line.startswith("Range: ")]
    opened = opens(wanted[0] if wanted and f"Range: {wanted[0]}" != BAD else None)
    hopeless = wanted in (["bytes=-0"], [REVERSED.removeprefix("Range: ")])
    describes = hopeless or any(line.startswith(MOSTLY_304) for line in case.fields)
    asked = [DESCRIBES if describes else opened]
    match case.expected:
        case Missing():
            return asked
        case _ if f"Range: {opened[1]}" == BEYOND and not describes:
            asked.append(DESCRIBES)  # S3 told the size alone, and conditions need more
    match case.expected:
        case Whole() if asked != [opens()]:
            asked.append(reads(0, SIZE, ETAG))
        case Part(start, stop) if asked != [opened]:
            asked.append(reads(start, stop, ETAG))
    return asked


def without_probe(asked: list[Asked], expected: Expected) -> list[Asked]:
    """Without the GET that tells what a HEAD without result meant, while nothing else did."""
    missed = isinstance(expected, Missing) and asked == [DESCRIBES, opens("bytes=0-0")]
    return asked[:1] if missed else asked


@table([case for case in ROWS if not any(line.startswith("Range:") for line in case.fields)])
def test_precondition_by_head(films: Site, case: Row) -> None:
    message = request(case.target, *case.fields, method="HEAD")
    with films.asking() as asked:
        answer = exchange(films.address, message, method="HEAD")
    check_film(answer, case.expected, method="HEAD")
    assert without_probe(requests(asked), case.expected) == [DESCRIBES]


@covers("4-304-fields")
def test_what_a_304_carries(films: Site) -> None:
    answer = exchange(films.address, request(TARGET, f"If-None-Match: {ETAG}"))
    assert answer.status == 304
    assert set(answer.fields) == {
        "age",
        "etag",
        "last-modified",
        "cache-control",
        "expires",
        "accept-ranges",
        "date",
        "server",
        "x-content-type-options",
        "x-request-id",
    }
    plain = exchange(films.address, request(TARGET))
    for name in ("etag", "last-modified", "cache-control", "expires"):
        assert answer.fields[name] == plain.fields[name]


@covers("4-if-range-date")
def test_a_date_of_this_very_second_is_no_strong_validator(films: Site) -> None:
    """Within the second the object could change again unseen, so the range does not count."""
    modified = formatdate(time.time() + 60, usegmt=True)
    films.origin.put("fresh.bin", b"0123456789", Last_Modified=modified)
    answer = exchange(
        films.address, request("/fresh.bin", "Range: bytes=2-3", f"If-Range: {modified}")
    )
    assert (answer.status, answer.body) == (200, b"0123456789")


@dataclass(frozen=True, slots=True)
class Tag:
    """An entity tag of S3's, which is passed on to the letter."""

    row: str
    what: str
    etag: str


@table(
    [
        Tag("4-etag", "MD5", '"9e107d9d372bb6826bd81d3542a419d6"'),
        Tag("4-etag", "multipart", '"9e107d9d372bb6826bd81d3542a419d6-42"'),
        Tag("4-etag", "comma", '"a,b"'),
        Tag("4-etag", "capitals", '"AbC"'),
    ]
)
def test_an_entity_tag_comes_through_unchanged(films: Site, case: Tag) -> None:
    films.origin.put("tagged.bin", b"0123456789", etag=case.etag)
    plain = exchange(films.address, request("/tagged.bin"))
    assert plain.fields["etag"] == case.etag
    ranged = request("/tagged.bin", "Range: bytes=2-3", f"If-Range: {case.etag}")
    answer = exchange(films.address, ranged)
    assert (answer.status, answer.body, answer.fields["etag"]) == (206, b"23", case.etag)
    unchanged = request("/tagged.bin", f"If-None-Match: {case.etag}")
    assert exchange(films.address, unchanged).status == 304


@covers("4-if-range-equal")
def test_a_download_goes_on_where_it_stopped(films: Site) -> None:
    first = exchange(films.address, request(TARGET, "Range: bytes=0-3999"))
    check_film(first, Part(0, 4000))
    rest = request(TARGET, "Range: bytes=4000-", f"If-Range: {first.fields['etag']}")
    check_film(exchange(films.address, rest), Part(4000, SIZE))
