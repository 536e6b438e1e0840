"""Wire table, section 1: the syntax of Range, and one range."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.wire.film import (
    ETAG,
    SIZE,
    TARGET,
    Expected,
    Part,
    Unsatisfiable,
    Whole,
    check_film,
)
from tests.wire.http import check_error, exchange, request
from tests.wire.running import DESCRIBES, Site, opens, reads, requests
from tests.wire.table import covers, everywhere, on_our_connections, table


@dataclass(frozen=True, slots=True)
class Row:
    """A Range field's value, or several of them, and what must come of it.

    ``opened`` is the Range that the origin is asked for, if it is written otherwise, ``None`` for
    none; ``known`` says that the origin is first asked for facts alone.
    """

    row: str
    what: str
    value: bytes | tuple[bytes, ...]
    expected: Expected
    opened: str | None = ""
    known: bool = False


ALL = Part(0, SIZE)
NINES = b"9" * 5000

ROWS = (
    Row("1-no-range", "", (), Whole()),
    Row("1-first-last", "", b"bytes=100-299", Part(100, 300)),
    Row("1-first-last", "one byte in the middle", b"bytes=4321-4321", Part(4321, 4322)),
    Row("1-first-last", "last byte", b"bytes=9999-9999", Part(9999, 10_000)),
    Row("1-zero-based", "first byte", b"bytes=0-0", Part(0, 1)),
    Row("1-zero-based", "first two", b"bytes=0-1", Part(0, 2)),
    Row("1-open-end", "", b"bytes=4000-", Part(4000, SIZE)),
    Row("1-open-end", "last byte", b"bytes=9999-", Part(9999, SIZE)),
    Row("1-suffix", "", b"bytes=-500", Part(9500, SIZE)),
    Row("1-suffix", "last byte", b"bytes=-1", Part(9999, SIZE)),
    Row("1-suffix-too-long", "", b"bytes=-10001", ALL),
    Row("1-suffix-too-long", "exactly all", b"bytes=-10000", ALL),
    Row("1-suffix-zero", "", b"bytes=-0", Unsatisfiable(), known=True),
    Row("1-suffix-zero", "many zeros", b"bytes=-000", Unsatisfiable(), known=True),
    Row("1-start-beyond", "at the end", b"bytes=10000-", Unsatisfiable()),
    Row("1-start-beyond", "far", b"bytes=20000-20001", Unsatisfiable()),
    Row("1-stop-beyond", "", b"bytes=9990-10000", Part(9990, SIZE)),
    Row("1-stop-beyond", "far", b"bytes=9990-99999999", Part(9990, SIZE)),
    Row("1-all-of-it", "exact", b"bytes=0-9999", ALL),
    Row("1-all-of-it", "open", b"bytes=0-", ALL, None),
    Row("1-all-of-it", "over", b"bytes=0-10004", ALL),
    Row("1-reversed", "", b"bytes=300-100", Unsatisfiable(), known=True),
    Row("1-reversed", "by one", b"bytes=1-0", Unsatisfiable(), known=True),
    Row("1-reversed", "beyond the end", b"bytes=20001-20000", Unsatisfiable(), known=True),
    Row("1-reversed", "with empty members", b"bytes=,9-3,", Unsatisfiable(), known=True),
    Row("1-garbage", "word", b"bytes=abc", Whole()),
    Row("1-garbage", "number", b"bytes=5", Whole()),
    Row("1-garbage", "dash", b"bytes=-", Whole()),
    Row("1-garbage", "no set", b"bytes=", Whole()),
    Row("1-garbage", "only commas", b"bytes=,,,", Whole()),
    Row("1-garbage", "two dashes first", b"bytes=--5", Whole()),
    Row("1-garbage", "two dashes within", b"bytes=0--1", Whole()),
    Row("1-garbage", "three numbers", b"bytes=1-2-3", Whole()),
    Row("1-garbage", "with a total", b"bytes=0-4/10", Whole()),
    Row("1-garbage", "space for the equals sign", b"bytes 0-4", Whole()),
    Row("1-garbage", "colon for the equals sign", b"bytes: 0-4", Whole()),
    Row("1-garbage", "no unit", b"0-4", Whole()),
    Row("1-garbage", "unit alone", b"bytes", Whole()),
    Row("1-garbage", "two equals signs", b"bytes==0-4", Whole()),
    Row("1-garbage", "fraction", b"bytes=0.5-4", Whole()),
    Row("1-garbage", "hexadecimal", b"bytes=0x1-0x4", Whole()),
    Row("1-garbage", "semicolon", b"bytes=0-4;5-9", Whole()),
    Row("1-garbage", "empty value", b"", Whole()),
    Row("1-other-unit", "seconds", b"seconds=0-4", Whole()),
    Row("1-other-unit", "items", b"items=0-4", Whole()),
    Row("1-other-unit", "none", b"none", Whole()),
    Row("1-other-unit", "longer name", b"bytess=0-4", Whole()),
    Row("1-unit-case", "capital", b"Bytes=100-299", Part(100, 300), "bytes=100-299"),
    Row("1-unit-case", "capitals", b"BYTES=-5", Part(9995, SIZE), "bytes=-5"),
    Row("1-blanks-at-commas", "space", b"bytes=5-9 , 20000-", Part(5, 10), known=True),
    Row("1-blanks-at-commas", "tab", b"bytes=\t5-9\t,\t20000-", Part(5, 10), known=True),
    Row("1-blanks-at-commas", "after the equals sign", b"bytes= 5-9", Part(5, 10), "bytes=5-9"),
    Row("1-blanks-inside", "around the dash", b"bytes=0 - 4", Whole()),
    Row("1-blanks-inside", "before the equals sign", b"bytes =0-4", Whole()),
    Row("1-blanks-inside", "in a number", b"bytes=1 0-20", Whole()),
    Row("1-empty-members", "", b"bytes=,5-9,", Part(5, 10), "bytes=5-9"),
    Row("1-empty-members", "many", b"bytes=, ,,5-9, ,", Part(5, 10), "bytes=5-9"),
    Row("1-huge", "last-pos 2^63", b"bytes=9000-9223372036854775808", Part(9000, SIZE), known=True),
    Row("1-huge", "last-pos 10^22", b"bytes=9000-1" + b"0" * 22, Part(9000, SIZE), known=True),
    Row("1-huge", "suffix 2^64", b"bytes=-18446744073709551616", ALL, known=True),
    Row("1-huge", "suffix 10^22", b"bytes=-1" + b"0" * 22, ALL, known=True),
    Row("1-huge", "first-pos 2^63", b"bytes=9223372036854775808-", Unsatisfiable(), known=True),
    Row("1-huge", "first-pos 10^22", b"bytes=1" + b"0" * 22 + b"-", Unsatisfiable(), known=True),
    Row("1-huge", "last-pos 2^63 - 1", b"bytes=9000-9223372036854775807", Part(9000, SIZE)),
    Row(
        "1-huge",
        "both, reversed",
        b"bytes=2" + b"0" * 22 + b"-1" + b"0" * 22,
        Unsatisfiable(),
        known=True,
    ),
    Row("1-5000-digits", "last-pos", b"bytes=9000-" + NINES, Part(9000, SIZE), known=True),
    Row("1-5000-digits", "suffix", b"bytes=-" + NINES, ALL, known=True),
    Row("1-5000-digits", "first-pos", b"bytes=" + NINES + b"-", Unsatisfiable(), known=True),
    Row("1-5000-digits", "zeros", b"bytes=" + b"0" * 5000 + b"7-9", Part(7, 10), "bytes=7-9"),
    Row("1-leading-zeros", "", b"bytes=0005-0009", Part(5, 10), "bytes=5-9"),
    Row(
        "1-leading-zeros",
        "many",
        b"bytes=" + b"0" * 30 + b"5-" + b"0" * 40 + b"9",
        Part(5, 10),
        "bytes=5-9",
    ),
    Row("1-signs", "", b"bytes=+0-+4", Whole()),
    Row("1-signs", "one", b"bytes=+0-4", Whole()),
    Row("1-underscores", "", b"bytes=1_0-2_0", Whole()),
    Row("1-unicode-digits", "arabic", "bytes=\u0660-\u0664".encode(), Whole()),
    Row("1-unicode-digits", "fullwidth", "bytes=\uff10-\uff14".encode(), Whole()),
    Row("1-unicode-digits", "superscript", "bytes=0-²".encode(), Whole()),
    Row("1-unicode-digits", "superscript in latin-1", b"bytes=0-\xb2", Whole()),
    Row("1-two-lines", "", (b"bytes=0-4", b"bytes=5-9"), Whole()),
    Row("1-two-lines", "the same", (b"bytes=0-4", b"bytes=0-4"), Whole()),
    Row("1-two-lines", "second unsatisfiable", (b"bytes=0-4", b"bytes=20000-"), Whole()),
)


@pytest.mark.fault("F3", "F5", "F6")
@table(ROWS)
@everywhere
def test_range(films: Site, case: Row) -> None:
    values = case.value if isinstance(case.value, tuple) else (case.value,)
    lines = [b"Range: " + value for value in values]
    with films.asking() as asked:
        answer = exchange(films.address, request(TARGET, *lines))
    check_film(answer, case.expected)
    match case.expected:
        # Of an object of which nothing is known, one request tells and brings everything.
        case Whole():
            assert requests(asked) == [opens()]
        case _ if not case.known:
            assert requests(asked) == [
                opens(values[0].decode() if case.opened == "" else case.opened)
            ]
        # Where that could not be, of the bytes none is fetched in vain.
        case Part(start, stop):
            assert requests(asked) == [DESCRIBES, reads(start, stop, ETAG)]
        case _:
            assert requests(asked) == [DESCRIBES]


@on_our_connections
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n ", b"\r\n\t"])
@covers("1-newline")
def test_a_line_break_never_ends_up_in_a_value(films: Site, end: bytes) -> None:
    """The parser refuses it before ``$`` could be fooled: a fold, a bare CR, a bare LF."""
    message = request(TARGET, b"Range: bytes=0-4" + end + b"x", b"X-More: 1")
    with films.asking() as asked:
        answer = exchange(films.address, message, keeps=False)
    check_error(answer, 400, "bad_request")
    assert not asked


@pytest.mark.parametrize(
    "value", ["bytes=0-4", "bytes=-5", "bytes=20000-", "bytes=9-3", "bytes=0-4,900-", "x"]
)
@covers("1-range-on-head")
def test_range_on_head_is_ignored(films: Site, value: str) -> None:
    message = request(TARGET, f"Range: {value}", method="HEAD")
    with films.asking() as asked:
        answer = exchange(films.address, message, method="HEAD")
    check_film(answer, Whole(), method="HEAD")
    assert [(seen.method, "range" in seen.headers) for seen in asked] == [("HEAD", False)]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@covers("1-range-on-others")
def test_range_on_other_methods_is_ignored(films: Site, method: str) -> None:
    message = request(TARGET, "Range: bytes=0-4", "Content-Length: 0", method=method)
    with films.asking() as asked:
        answer = exchange(films.address, message)
    check_error(answer, 405, "method_not_allowed")
    assert not asked
