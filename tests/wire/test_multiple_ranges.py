"""Wire table, section 2: several ranges in one request."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from tests.wire.film import (
    ETAG,
    FILM,
    SIZE,
    TARGET,
    WEAK_ETAG,
    Expected,
    Part,
    Parts,
    Unsatisfiable,
    Whole,
    check_film,
    read_byteranges,
)
from tests.wire.http import exchange, request
from tests.wire.running import DESCRIBES, Site, opens, reads, requests
from tests.wire.table import covers, table


@dataclass(frozen=True, slots=True)
class Row:
    """A set of ranges, other fields, and what must come of them.

    ``opened`` is set where one request to the origin is all: the Range it has, or ``None``.
    """

    row: str
    what: str
    ranges: str
    expected: Expected
    fields: tuple[str, ...] = ()
    opened: str | None = ""


def many(count: int) -> str:
    """So many ranges of one byte, 200 apart."""
    return ",".join(f"{200 * number}-{200 * number}" for number in range(count))


KILLER = "0-," + ",".join(f"5-{number}" for number in range(1300))
PAIR = "0-99,5000-5099"
BOTH = Parts(((0, 100), (5000, 5100)))

ROWS = (
    Row("2-two", "", PAIR, BOTH),
    Row("2-two", "suffix second", "0-0,-1", Parts(((0, 1), (9999, SIZE)))),
    Row("2-two", "open second", "10-19,9900-", Parts(((10, 20), (9900, SIZE)))),
    Row("2-two", "blanks", "0-99 ,\t 5000-5099", BOTH),
    Row("2-two", "clamped", "0-99,9990-20000", Parts(((0, 100), (9990, SIZE)))),
    Row("2-two", "three", "0-0,500-500,1000-1000", Parts(((0, 1), (500, 501), (1000, 1001)))),
    Row("2-one-unsatisfiable", "last", "0-99,10000-", Part(0, 100)),
    Row("2-one-unsatisfiable", "first", "20000-20001,0-99", Part(0, 100)),
    Row("2-one-unsatisfiable", "empty suffix", "-0,7-7", Part(7, 8)),
    Row("2-one-unsatisfiable", "of three", "0-99,10000-,5000-5099", BOTH),
    Row("2-none-satisfiable", "", "10000-,20000-20001", Unsatisfiable()),
    Row("2-none-satisfiable", "with an empty suffix", "-0,10000-10000", Unsatisfiable()),
    Row("2-one-malformed", "last", "0-99,abc", Whole(), opened=None),
    Row("2-one-malformed", "first", "x,0-99", Whole(), opened=None),
    Row("2-one-malformed", "other unit", "0-99,items=5-9", Whole(), opened=None),
    Row("2-one-malformed", "dash", "0-99,-", Whole(), opened=None),
    Row("2-one-malformed", "beside an unsatisfiable one", "10000-,abc", Whole(), opened=None),
    Row("2-one-reversed", "", "0-99,300-100", Whole(), opened=None),
    Row("2-one-reversed", "first", "300-100,0-99", Whole(), opened=None),
    Row("2-one-reversed", "both", "300-100,9-3", Whole(), opened=None),
    Row("2-one-reversed", "beside an unsatisfiable one", "300-100,10000-", Whole(), opened=None),
    Row("2-coalesced", "overlapping", "0-99,50-149", Part(0, 150)),
    Row("2-coalesced", "adjacent", "0-99,100-199", Part(0, 200)),
    Row("2-coalesced", "the same", "0-99,0-99", Part(0, 100)),
    Row("2-coalesced", "one in the other", "100-199,120-129", Part(100, 200)),
    Row("2-coalesced", "gap of 79", "0-99,179-199", Part(0, 200)),
    Row("2-coalesced", "gap of 80", "0-99,180-199", Parts(((0, 100), (180, 200)))),
    Row("2-coalesced", "descending and adjacent", "100-199,0-99", Part(0, 200)),
    Row("2-coalesced", "chain", "0-99,300-399,100-299", Part(0, 400)),
    Row("2-coalesced", "two of three", "5000-5099,0-99,50-149", Parts(((5000, 5100), (0, 150)))),
    Row(
        "2-coalesced",
        "first asked stands",
        "50-149,5000-5099,0-99",
        Parts(((0, 150), (5000, 5100))),
    ),
    Row("2-descending", "", "5000-5099,0-99", Parts(((5000, 5100), (0, 100)))),
    Row(
        "2-descending",
        "mixed",
        "3000-3009,9000-9009,0-9",
        Parts(((3000, 3010), (9000, 9010), (0, 10))),
    ),
    Row("2-descending", "suffix first", "-100,0-99", Parts(((9900, SIZE), (0, 100)))),
    Row("2-sum-beyond", "", "0-,1-,2-", Whole()),
    Row("2-sum-beyond", "by one", "0-5000,4000-8999", Whole()),
    Row("2-sum-beyond", "exactly all", "5000-9999,0-4999", Part(0, SIZE)),
    Row("2-many-tiny", "16", many(16), Parts(tuple((200 * n, 200 * n + 1) for n in range(16)))),
    Row("2-many-tiny", "17", many(17), Whole(), opened=None),
    Row("2-many-tiny", "empty members count", "0-0" + "," * 16, Whole(), opened=None),
    Row("2-many-tiny", "15 empty members", "0-0" + "," * 15, Part(0, 1), opened="bytes=0-0"),
    Row("2-killer", "CVE-2011-3192", KILLER, Whole(), opened=None),
    Row("2-killer", "CVE-2025-62727", "0" * 8000, Whole(), opened=None),
    Row("2-killer", "CVE-2025-62727, dashes", "0-" * 4000, Whole(), opened=None),
    Row("2-killer", "commas", "," * 8000, Whole(), opened=None),
    Row("2-killer", "blanks", "0-0" + " " * 8000 + "x", Whole(), opened=None),
    Row("2-killer", "overlaps under the limit", ",".join(["0-9999"] * 16), Whole()),
    Row("2-if-range", "equal", PAIR, BOTH, (f"If-Range: {ETAG}",)),
    Row("2-if-range", "other", PAIR, Whole(), ('If-Range: "other"',)),
    Row("2-if-range", "weak", PAIR, Whole(), (f"If-Range: {WEAK_ETAG}",)),
    Row("2-if-range", "other, none satisfiable", "10000-,-0", Whole(), ('If-Range: "other"',)),
)


@pytest.mark.fault("F4")
@table(ROWS)
def test_ranges(films: Site, case: Row) -> None:
    started = time.process_time()
    with films.asking() as asked:
        answer = exchange(
            films.address, request(TARGET, f"Range: bytes={case.ranges}", *case.fields)
        )
    spent = time.process_time() - started
    check_film(answer, case.expected)
    # Whatever is asked, no more is read than there is, and little is thought about it.
    match case.expected:
        case Parts(spans):
            wanted = [reads(start, stop, ETAG) for start, stop in spans]
        case Unsatisfiable():
            wanted = []
        case Part(start, stop):
            wanted = [reads(start, stop, ETAG)]
        case _:
            wanted = [reads(0, SIZE, ETAG)]
    assert requests(asked) == ([opens(case.opened)] if case.opened != "" else [DESCRIBES, *wanted])
    assert spent < 1.0


@covers("2-framing")
def test_every_byte_of_a_multipart_answer(films: Site) -> None:
    ranges = "Range: bytes=5000-5099,0-0,-100"
    answers = [exchange(films.address, request(TARGET, ranges)) for _ in range(2)]
    boundaries = set()
    for answer in answers:
        assert answer.status == 206
        boundary = answer.fields["content-type"].removeprefix("multipart/byteranges; boundary=")
        boundaries.add(boundary)
        pieces = [(5000, 5100), (0, 1), (9900, 10_000)]
        parts = [
            f"--{boundary}\r\nContent-Type: video/mp4\r\n"
            f"Content-Range: bytes {start}-{stop - 1}/10000\r\n\r\n".encode()
            + FILM[start:stop]
            for start, stop in pieces
        ]
        expected = b"\r\n".join(parts) + f"\r\n--{boundary}--\r\n".encode()
        assert answer.body == expected
        assert answer.fields["content-length"] == str(len(expected))
        assert answer.lacks("Content-Range", "Transfer-Encoding")
    # A boundary that could be foreseen could be put into an object.
    assert len(boundaries) == 2


@covers("2-framing")
def test_a_boundary_in_the_content_cannot_mislead(films: Site) -> None:
    """What looks like a delimiter in the object is content like any other."""
    first = exchange(films.address, request(TARGET, "Range: bytes=0-0,500-500"))
    delimiter = first.fields["content-type"].partition("boundary=")[2].encode()
    body = (b"\r\n--" + delimiter + b"--\r\n") * 20
    films.origin.put("boundary.bin", body)
    answer = exchange(films.address, request("/boundary.bin", "Range: bytes=0-99,200-299"))
    parts = read_byteranges(answer.fields["content-type"], answer.body)
    assert [part.body for part in parts] == [body[:100], body[200:300]]
