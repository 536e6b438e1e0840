"""Wire table, section 5: methods, header fields, content coding."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import unquote

import pytest

from tests.wire.film import (
    ETAG,
    FILM,
    MODIFIED,
    SIZE,
    TARGET,
    Part,
    Whole,
    check_film,
)
from tests.wire.http import Answer, Wire, check_error, exchange, request
from tests.wire.running import Site
from tests.wire.table import covers, on_our_connections, table

ALLOW = "GET, HEAD, OPTIONS"
OF_THE_MOMENT = ("date", "x-request-id")


def lasting(answer: Answer, *without: str) -> dict[str, str]:
    """The fields that do not depend on when and how often was asked."""
    left_out = {*OF_THE_MOMENT, *without}
    return {name: value for name, value in answer.fields.items() if name not in left_out}


@pytest.mark.parametrize(
    ("target", "field"),
    [
        (TARGET, "X-None: 1"),
        ("/empty.bin", "X-None: 1"),
        ("/absent.mp4", "X-None: 1"),
        ("/", "X-None: 1"),
        ("/a%zz", "X-None: 1"),
        ("/" + "a" * 1025, "X-None: 1"),
        (TARGET, f"If-None-Match: {ETAG}"),
        (TARGET, 'If-Match: "other"'),
        (TARGET + "?download=a%20film.mp4", "X-None: 1"),
    ],
)
@covers("5-head")
def test_head_is_get_without_its_body(films: Site, target: str, field: str) -> None:
    get = exchange(films.address, request(target, field))
    with films.asking() as asked:
        head = exchange(films.address, request(target, field, method="HEAD"), method="HEAD")
    assert head.status == get.status
    assert lasting(head) == lasting(get)
    assert head.body == b""
    if get.status < 400:
        assert [seen.method for seen in asked] == ["HEAD"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A method that is not served, and its body."""

    row: str
    what: str
    body: bytes = b""


@table(
    [
        Refused("5-writing", "POST"),
        Refused("5-writing", "PUT", b"x" * 1000),
        Refused("5-writing", "DELETE"),
        Refused("5-writing", "PATCH", b"{}"),
        Refused("5-other-methods", "TRACE"),
        Refused("5-other-methods", "PROPFIND"),
        Refused("5-other-methods", "LOCK"),
        Refused("5-other-methods", "QUERY"),
        Refused("5-other-methods", "PURGE"),
    ]
)
def test_methods_that_are_not_served(films: Site, case: Refused) -> None:
    fields = [f"Content-Length: {len(case.body)}"] if case.body else []
    for target in (TARGET, "/absent.mp4", "/a/../b", "/"):
        message = request(target, *fields, method=case.what, body=case.body)
        with films.asking() as asked:
            answer = exchange(films.address, message)
        check_error(answer, 405, "method_not_allowed")
        assert answer.fields["allow"] == ALLOW
        assert not asked


@covers("5-other-methods")
def test_connect_opens_no_tunnel(films: Site) -> None:
    message = request("films.example:443", method="CONNECT")
    answer = exchange(films.address, message)
    check_error(answer, 405, "method_not_allowed")


@on_our_connections
@pytest.mark.parametrize("method", ["BREW", "get", "GETT", "G"])
@covers("5-other-methods")
def test_an_unknown_method_is_refused_by_the_parser(films: Site, method: str) -> None:
    with films.asking() as asked:
        answer = exchange(films.address, request(TARGET, method=method), keeps=False)
    check_error(answer, 400, "bad_request")
    assert not asked


@pytest.mark.parametrize("target", ["*", TARGET, "/", "/absent.mp4", "http://films.example"])
@covers("5-options")
def test_options(films: Site, target: str) -> None:
    with films.asking() as asked:
        answer = exchange(films.address, request(target, method="OPTIONS"), method="OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.fields["allow"] == ALLOW
    assert answer.lacks("Content-Type", "Content-Length")
    assert not asked


@pytest.mark.parametrize(
    ("fields", "method", "status"),
    [
        ((), "GET", 200),
        (("Range: bytes=0-4",), "GET", 206),
        (("Range: bytes=0-4,500-504",), "GET", 206),
        ((f"If-None-Match: {ETAG}",), "GET", 304),
        ((), "HEAD", 200),
    ],
)
@covers("5-accept-ranges")
def test_ranges_are_announced_with_an_object(
    films: Site, fields: tuple[str, ...], method: str, status: int
) -> None:
    answer = exchange(films.address, request(TARGET, *fields, method=method), method=method)
    assert answer.status == status
    assert answer.fields["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("target", "fields", "method", "status"),
    [
        (TARGET, ("Range: bytes=20000-",), "GET", 416),
        (TARGET, ('If-Match: "other"',), "GET", 412),
        (TARGET, (), "OPTIONS", 204),
        (TARGET, (), "POST", 405),
        ("/absent.mp4", (), "GET", 404),
        ("/absent.mp4", (), "HEAD", 404),
        ("/../film.mp4", (), "GET", 400),
    ],
)
@covers("5-accept-ranges")
def test_ranges_are_not_announced_where_none_can_be_had(
    films: Site, target: str, fields: tuple[str, ...], method: str, status: int
) -> None:
    answer = exchange(films.address, request(target, *fields, method=method), method=method)
    assert answer.status == status
    assert answer.lacks("Accept-Ranges")


@pytest.mark.parametrize("target", [TARGET, TARGET + "?download"])
@covers("5-206-metadata")
def test_a_part_carries_what_the_whole_carries(films: Site, target: str) -> None:
    whole = exchange(films.address, request(target))
    part = exchange(films.address, request(target, "Range: bytes=5-9"))
    assert lasting(part, "content-length", "content-range") == lasting(whole, "content-length")
    parts = exchange(films.address, request(target, "Range: bytes=5-9,500-509"))
    assert lasting(parts, "content-length", "content-type") == lasting(
        whole, "content-length", "content-type"
    )


@covers("5-content-range-elsewhere")
def test_content_range_is_never_copied_from_the_origin(films: Site) -> None:
    films.origin.put("ranged.bin", FILM, etag=ETAG, Content_Range=f"bytes 0-{SIZE - 1}/{SIZE}")
    for method, fields, status in (
        ("HEAD", (), 200),
        ("GET", (), 200),
        ("GET", (f"If-None-Match: {ETAG}",), 304),
        ("GET", ('If-Match: "other"',), 412),
        ("GET", ("Range: bytes=0-4,900-904",), 206),
        ("OPTIONS", (), 204),
        ("POST", ("Content-Length: 0",), 405),
    ):
        message = request("/ranged.bin", *fields, method=method)
        answer = exchange(films.address, message, method=method)
        assert answer.status == status
        assert answer.lacks("Content-Range")


@covers("5-content-range-elsewhere")
def test_a_content_range_without_a_range_means_nothing(films: Site) -> None:
    """RFC 9110 §14.4: on a 200 it is to be ignored, and is not passed on."""
    films.origin.put("ranged.bin", FILM, etag=ETAG, Content_Range="bytes 0-8/9")
    for fields, method, status in (
        ((), "HEAD", 200),
        ((f"If-None-Match: {ETAG}",), "GET", 304),
        ((), "GET", 200),
    ):
        message = request("/ranged.bin", *fields, method=method)
        answer = exchange(films.address, message, method=method)
        assert answer.status == status
        assert answer.lacks("Content-Range")
        if (method, status) == ("GET", 200):
            assert answer.body == FILM


@pytest.mark.parametrize(
    ("fields", "method", "status"),
    [
        ((), "GET", 200),
        ((), "HEAD", 200),
        (("Range: bytes=0-4",), "GET", 206),
        ((f"If-None-Match: {ETAG}",), "GET", 304),
        (("Range: bytes=0-4,900-904",), "GET", 206),
    ],
)
@covers("5-cache-control")
def test_caching_fields_pass_through(
    films: Site, fields: tuple[str, ...], method: str, status: int
) -> None:
    answer = exchange(films.address, request(TARGET, *fields, method=method), method=method)
    assert answer.status == status
    assert answer.fields["cache-control"] == "public, max-age=3600, immutable"
    assert answer.fields["expires"] == "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("target", "field"),
    [("/absent.mp4", "X-None: 1"), (TARGET, 'If-Match: "o"'), (TARGET, "Range: bytes=10000-")],
)
@covers("5-cache-control")
def test_errors_are_not_to_be_stored(films: Site, target: str, field: str) -> None:
    answer = exchange(films.address, request(target, field))
    assert answer.status >= 400
    assert answer.fields["cache-control"] == "no-store"
    assert answer.lacks("Expires", "ETag", "Last-Modified")


@covers("5-dates")
def test_dates(films: Site) -> None:
    answer = exchange(films.address, request(TARGET))
    assert answer.fields["last-modified"] == MODIFIED
    modified = parsedate_to_datetime(answer.fields["last-modified"])
    assert modified <= parsedate_to_datetime(answer.fields["date"])


CODED = gzip.compress(FILM, mtime=0)


@pytest.mark.parametrize("accepted", ["", "gzip", "identity", "br, *;q=0"])
@covers("5-content-encoding")
def test_a_stored_coding_is_passed_on_and_never_undone(films: Site, accepted: str) -> None:
    films.origin.put("coded.svgz", CODED, Content_Encoding="gzip", Content_Type="video/mp4")
    fields = [f"Accept-Encoding: {accepted}"] if accepted else []
    whole = exchange(films.address, request("/coded.svgz", *fields))
    assert (whole.status, whole.body) == (200, CODED)
    assert whole.fields["content-encoding"] == "gzip"
    part = exchange(films.address, request("/coded.svgz", "Range: bytes=10-99", *fields))
    assert (part.status, part.body) == (206, CODED[10:100])
    assert part.fields["content-encoding"] == "gzip"
    assert part.fields["content-range"] == f"bytes 10-99/{len(CODED)}"
    # In a multipart the coding would seem to cover the framing, so there is none.
    many = exchange(films.address, request("/coded.svgz", "Range: bytes=0-9,500-509", *fields))
    assert (many.status, many.body) == (200, CODED)


@pytest.mark.parametrize("accepted", ["gzip", "gzip, deflate, br, zstd", "*", "identity;q=0, gzip"])
@covers("5-no-compression")
def test_nothing_is_compressed_on_the_way(films: Site, accepted: str) -> None:
    field = f"Accept-Encoding: {accepted}"
    check_film(exchange(films.address, request(TARGET, field)), Whole())
    ranged = exchange(films.address, request(TARGET, field, "Range: bytes=0-9"))
    check_film(ranged, Part(0, 10))
    for answer in (ranged, exchange(films.address, request("/absent.mp4", field))):
        assert answer.lacks("Content-Encoding", "Vary")


@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
@covers("5-expect")
def test_expect_is_met_before_the_answer(films: Site, value: str) -> None:
    with Wire(films.address) as wire:
        wire.send(request(TARGET, f"Expect: {value}", "Range: bytes=0-9"))
        interim = wire.read_head()
        assert (interim.status, interim.fields) == (100, {})
        check_film(wire.read_answer(), Part(0, 10))
        wire.send(request("/absent.mp4", f"Expect: {value}"))
        assert wire.read_head().status == 100
        check_error(wire.read_answer(), 404, "not_found")
        wire.finish_sending()
        wire.expect_end()


@covers("5-expect")
def test_a_body_sent_after_100_is_consumed(films: Site) -> None:
    with Wire(films.address) as wire:
        wire.send(request(TARGET, "Expect: 100-continue", "Content-Length: 5", "Range: bytes=0-9"))
        assert wire.read_head().status == 100
        wire.send(b"hello")
        check_film(wire.read_answer(), Part(0, 10))
        wire.send(request(TARGET, "Range: bytes=5-5"))
        check_film(wire.read_answer(), Part(5, 6))


@covers("5-expect")
def test_expect_of_http_1_0_is_ignored(films: Site) -> None:
    message = request(TARGET, "Expect: 100-continue", "Range: bytes=0-9", version="1.0")
    check_film(exchange(films.address, message, keeps=False), Part(0, 10))


@covers("5-expect")
def test_other_expectations_fail(films: Site) -> None:
    with films.asking() as asked:
        answer = exchange(films.address, request(TARGET, "Expect: 200-ok"))
    check_error(answer, 417, "expectation_failed")
    assert not asked


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [("100-continue", 405, "method_not_allowed"), ("200-ok", 405, "method_not_allowed")],
)
@covers("5-expect")
def test_a_body_that_is_not_wanted_is_not_asked_for(
    films: Site, value: str, status: int, code: str
) -> None:
    """Whether it comes after all nobody knows, so the connection ends."""
    message = request(TARGET, f"Expect: {value}", "Content-Length: 10", method="PUT")
    with Wire(films.address) as wire:
        wire.send(message)
        answer = wire.read_answer("PUT")
        check_error(answer, status, code)
        assert not answer.head.keeps_connection


@dataclass(frozen=True, slots=True)
class Name:
    """How an object is asked for as a download, and the name it is to be saved under."""

    row: str
    what: str
    target: str
    fallback: str
    name: str
    stored: str | None = None


@table(
    [
        Name("5-disposition", "plain", "/a/b/film.mp4?download", "film.mp4", "film.mp4"),
        Name(
            "5-disposition", "named", "/f.mp4?download=My%20Film.mp4", "My Film.mp4", "My Film.mp4"
        ),
        Name("5-disposition", "plus", "/f.mp4?download=My+Film.mp4", "My Film.mp4", "My Film.mp4"),
        Name(
            "5-disposition", "korean key", "/%EC%98%81%ED%99%94.mp4?download", "__.mp4", "영화.mp4"
        ),
        Name(
            "5-disposition",
            "korean name",
            "/f.mp4?download=%EC%98%81%ED%99%94.mp4",
            "__.mp4",
            "영화.mp4",
        ),
        Name("5-disposition", "emoji", "/f.mp4?download=%F0%9F%8E%AC.mp4", "_.mp4", "🎬.mp4"),
        Name("5-disposition", "quotes", "/f.mp4?download=a%22b%5Cc.mp4", "c.mp4", "c.mp4"),
        Name("5-disposition", "quote", "/f.mp4?download=a%22b.mp4", "a_b.mp4", 'a"b.mp4'),
        Name("5-disposition", "percent", "/f.mp4?download=100%25.mp4", "100_.mp4", "100%.mp4"),
        Name("5-disposition", "semicolon", "/f.mp4?download=a;b.mp4", "a;b.mp4", "a;b.mp4"),
        Name("5-disposition", "path", "/f.mp4?download=../../etc/passwd", "passwd", "passwd"),
        Name(
            "5-injection",
            "line break in a name",
            "/f.mp4?download=a%0d%0aX-Evil:%201",
            "aX-Evil: 1",
            "aX-Evil: 1",
        ),
        Name("5-injection", "NUL in a name", "/f.mp4?download=a%00b.mp4", "ab.mp4", "ab.mp4"),
        Name(
            "5-injection",
            "controls in a name",
            "/f.mp4?download=a%1bb%7f%c2%85.mp4",
            "ab.mp4",
            "ab.mp4",
        ),
        Name(
            "5-injection",
            "not UTF-8 in a name",
            "/f.mp4?download=a%ff.mp4",
            "a_.mp4",
            "a\ufffd.mp4",
        ),
        Name(
            "5-disposition", "stored", "/s1.mp4", "s.mp4", "s.mp4", 'attachment; filename="s.mp4"'
        ),
        Name(
            "5-disposition",
            "stored, extended",
            "/s2.mp4",
            "__.mp4",
            "영화.mp4",
            "attachment; filename*=UTF-8''%EC%98%81%ED%99%94.mp4",
        ),
        Name(
            "5-injection",
            "stored with a path",
            "/s3.mp4",
            "x.mp4",
            "x.mp4",
            'attachment; filename="../../x.mp4"',
        ),
    ]
)
def test_the_name_of_a_download(films: Site, case: Name) -> None:
    path = unquote(case.target.partition("?")[0])
    stored = {"Content_Disposition": case.stored} if case.stored else {}
    films.origin.put(path[1:], FILM, **stored)
    for fields, status in (((), 200), (("Range: bytes=0-9",), 206)):
        answer = exchange(films.address, request(case.target, *fields))
        assert answer.status == status
        expected = f'attachment; filename="{case.fallback}"'
        if case.fallback != case.name:
            value = answer.fields["content-disposition"]
            plain, star, extended = value.partition("; filename*=UTF-8''")
            assert (plain, bool(star)) == (expected, True)
            assert unquote(extended, errors="strict") == case.name
            assert extended.isascii()
        else:
            assert answer.fields["content-disposition"] == expected
        assert answer.lacks("X-Evil")


@pytest.mark.parametrize("escape", ["%0d%0a", "%0a", "%0d", "%00", "%e2%80%a8"])
@covers("5-injection")
def test_a_line_break_in_a_key_never_reaches_a_field(films: Site, escape: str) -> None:
    target = f"/film{escape}X-Evil:%201.mp4?download"
    answer = exchange(films.address, request(target))
    if escape == "%e2%80%a8":  # a line separator is a character like any other, in a key
        check_error(answer, 404, "not_found")
    else:
        check_error(answer, 400, "bad_request")
    assert answer.lacks("X-Evil")


@pytest.mark.fault("F10")
@covers("5-injection")
def test_stored_metadata_that_cannot_be_sent_is_dropped(films: Site) -> None:
    """A field value with a control would make aiohttp drop the whole answer, or split it."""
    films.origin.put(
        "strange.mp4",
        FILM,
        Cache_Control="max-age=1\x01",
        Content_Language="fran\xe7ais",
        x_amz_meta_title="caf\xe9\x02",
        Content_Disposition='attachment; filename="a\x03b.mp4"',
    )
    for fields, status in (((), 200), (("Range: bytes=0-9",), 206)):
        answer = exchange(films.address, request("/strange.mp4", *fields))
        assert answer.status == status
        assert answer.lacks("Cache-Control", "Content-Language", "X-Amz-Meta-Title")
        assert "\x03" not in answer.fields.get("content-disposition", "")


QUERIES = (
    "response-content-type=text%2Fhtml",
    "response-content-disposition=attachment",
    "response-cache-control=no-cache&response-expires=0",
    "versionId=3HL4kqtJlcpXroDTDmJ",
    "partNumber=1",
    "acl",
    "uploads",
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0",
    "AWSAccessKeyId=AKIA&Signature=x&Expires=1",
    "x=%zz",
    "a=b?c=d",
    "",
)


@pytest.mark.parametrize("query", QUERIES)
@covers("5-query")
def test_queries_never_reach_the_origin(films: Site, query: str) -> None:
    plain = lasting(exchange(films.address, request(TARGET)))
    with films.asking() as asked:
        answer = exchange(films.address, request(f"{TARGET}?{query}"))
    check_film(answer, Whole())
    assert lasting(answer) == plain
    for seen in asked:
        assert seen.path == "/films/film.mp4"


@covers("5-query")
def test_fields_of_the_client_never_reach_the_origin(films: Site) -> None:
    sent = {
        "Cookie": "a=b",
        "Authorization": "Basic eA==",
        "X-Amz-Security-Token": "x",
        "x-amz-request-payer": "requester",
        "Referer": "http://other.example/",
        "User-Agent": "player/1.0",
        "X-Forwarded-For": "203.0.113.9",
        "Accept-Encoding": "br",
        "X-Request-Id": "0123456789abcdef",
    }
    with films.asking() as asked:
        answer = exchange(
            films.address, request(TARGET, *(f"{name}: {value}" for name, value in sent.items()))
        )
    check_film(answer, Whole())
    assert answer.fields["x-request-id"] == sent["X-Request-Id"]
    assert asked
    for seen in asked:
        for name, value in sent.items():
            assert value not in seen.headers.get(name.lower(), "").split(", ")


@pytest.mark.parametrize(
    "query",
    ["&".join(["download=a.mp4"] * 101), "download=" + "a" * 7000, "download=%zz", "=&;&download"],
)
@covers("5-query")
def test_no_query_is_an_error_of_the_server(films: Site, query: str) -> None:
    with films.asking() as asked:
        answer = exchange(films.address, request(f"{TARGET}?{query}", "Range: bytes=0-9"))
    if answer.status == 206:
        assert answer.fields["content-disposition"].startswith("attachment; ")
    else:
        check_error(answer, 400, "bad_request")
        assert not asked


@pytest.mark.parametrize("given", ["short", "x" * 65, "with space here", "a/b/c/d/e", "ünïcode-id"])
@covers("5-request-id")
def test_an_unsound_request_id_is_replaced(films: Site, given: str) -> None:
    answer = exchange(films.address, request("/absent.mp4", f"X-Request-Id: {given}"))
    check_error(answer, 404, "not_found")
    assert answer.fields["x-request-id"] != given


def test_the_film_is_what_the_tables_say() -> None:
    assert len(FILM) == SIZE
