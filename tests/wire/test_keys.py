"""Wire table, section 6: from a request target to a key, or to a refusal that asks nobody."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.wire.http import check_error, exchange, request
from tests.wire.running import Site
from tests.wire.table import covers, on_our_connections, table


@dataclass(frozen=True, slots=True)
class Row:
    """A raw target, and the key it names."""

    row: str
    what: str
    target: bytes | str
    key: str


KOREAN = "영화/봄날은 간다.mp4"
KOREAN_PATH = "/%EC%98%81%ED%99%94/%EB%B4%84%EB%82%A0%EC%9D%80%20%EA%B0%84%EB%8B%A4.mp4"
LONG = "k" * 1024
LONG_KOREAN = "한" * 341 + "x"

ROWS = (
    Row("6-characters", "space", "/a%20b.mp4", "a b.mp4"),
    Row("6-characters", "korean", KOREAN_PATH, KOREAN),
    Row("6-characters", "korean, lower-case escapes", KOREAN_PATH.lower(), KOREAN),
    Row("6-characters", "escaped plus", "/a%2Bb.mp4", "a+b.mp4"),
    Row("6-characters", "semicolon", "/a;b.mp4", "a;b.mp4"),
    Row("6-characters", "escaped semicolon", "/a%3Bb.mp4", "a;b.mp4"),
    Row("6-characters", "number sign", "/a%23b.mp4", "a#b.mp4"),
    Row("6-characters", "question mark", "/a%3Fb.mp4", "a?b.mp4"),
    Row("6-characters", "question mark, then a query", "/a%3Fb.mp4?c=d", "a?b.mp4"),
    Row("6-characters", "percent", "/100%25.mp4", "100%.mp4"),
    Row("6-characters", "emoji", "/%F0%9F%8E%AC.mp4", "🎬.mp4"),
    Row("6-characters", "accent", "/caf%C3%A9.mp4", "café.mp4"),
    Row("6-characters", "accent, decomposed", "/cafe%CC%81.mp4", "cafe\u0301.mp4"),
    Row("6-characters", "signs as they are", "/!$&'()*,:=@_~-.mp4", "!$&'()*,:=@_~-.mp4"),
    Row(
        "6-characters", "signs escaped", "/%21%24%26%27%28%29%2A%2C%3A%3D%40.mp4", "!$&'()*,:=@.mp4"
    ),
    Row(
        "6-characters",
        "quotes and brackets",
        "/%22%3C%3E%5B%5D%5E%60%7B%7C%7D.mp4",
        '"<>[]^`{|}.mp4',
    ),
    Row("6-characters", "letter escaped for no reason", "/%66ree%2Emp4", "free.mp4"),
    Row("6-characters", "absolute form", "http://other.example/abs.mp4", "abs.mp4"),
    Row(
        "6-characters", "absolute form, https and query", "https://o.example:1/abs.mp4?x", "abs.mp4"
    ),
    Row("6-plus", "", "/a+b.mp4", "a+b.mp4"),
    Row("6-plus", "beside a space", "/a+b%20c.mp4", "a+b c.mp4"),
    Row("6-escaped-slash", "", "/x%2Fy.mp4", "x/y.mp4"),
    Row("6-escaped-slash", "lower case", "/x%2fy.mp4", "x/y.mp4"),
    Row("6-escaped-slash", "the text itself", "/file%252Fname", "file%2Fname"),
    Row("6-escaped-slash", "an escape that is text", "/a%2520b.mp4", "a%20b.mp4"),
    Row("6-slashes", "doubled", "/x//y.mp4", "x//y.mp4"),
    Row("6-slashes", "at the beginning", "//y.mp4", "/y.mp4"),
    Row("6-slashes", "many", "/x///y.mp4", "x///y.mp4"),
    Row("6-trailing-slash", "", "/folder/", "folder/"),
    Row("6-trailing-slash", "without", "/folder", "folder"),
    Row("6-trailing-slash", "escaped", "/folder%2F", "folder/"),
    Row("6-dot-segments", "three dots are a name", "/x/.../y.mp4", "x/.../y.mp4"),
    Row("6-dot-segments", "dots within names", "/..x/y../.z", "..x/y../.z"),
    Row("6-long", "1024 bytes", "/" + LONG, LONG),
    Row("6-long", "1024 bytes of korean", "/" + "%ED%95%9C" * 341 + "x", LONG_KOREAN),
)


@table(ROWS)
def test_a_target_names_one_key(films: Site, case: Row) -> None:
    """The origin is asked for just this key, and gives just these bytes."""
    body = f"the bytes of {case.key}".encode()
    films.origin.put(case.key, body)
    try:
        with films.asking() as asked:
            whole = exchange(films.address, request(case.target))
            part = exchange(films.address, request(case.target, "Range: bytes=4-8"))
            head = exchange(films.address, request(case.target, method="HEAD"), method="HEAD")
    finally:
        films.origin.delete(case.key)
    assert (whole.status, whole.body) == (200, body)
    assert (part.status, part.body) == (206, b"bytes")
    assert (head.status, head.fields["content-length"]) == (200, str(len(body)))
    assert {seen.key for seen in asked} == {case.key}
    assert all("?" not in seen.path for seen in asked)


@table([row for row in ROWS if row.row in {"6-slashes", "6-trailing-slash", "6-plus"}])
def test_a_key_that_is_not_there_is_404_and_no_redirect(films: Site, case: Row) -> None:
    near = case.key.replace("//", "/").strip("/").replace("+", " ")
    if near == case.key:
        near = f"{case.key}/"
    films.origin.put(near, b"a neighbour")
    try:
        with films.asking() as asked:
            answer = exchange(films.address, request(case.target))
    finally:
        films.origin.delete(near)
    check_error(answer, 404, "not_found")
    assert answer.lacks("Location")
    assert {seen.key for seen in asked} == {case.key}


@dataclass(frozen=True, slots=True)
class Refused:
    """A raw target that names no key, and what is answered; by the parser, if it closes."""

    row: str
    what: str
    target: bytes | str
    status: int = 400
    code: str = "bad_request"
    keeps: bool = True


REFUSED = (
    Refused("6-nul", "", "/a%00b"),
    Refused("6-nul", "at the end", "/film.mp4%00"),
    Refused("6-nul", "alone", "/%00"),
    Refused("6-nul", "raw", b"/a\0b", keeps=False),
    Refused("6-nul", "overlong", "/a%C0%80b"),
    Refused("6-controls", "escape", "/a%1bb"),
    Refused("6-controls", "tab", "/a%09b"),
    Refused("6-controls", "line feed", "/a%0ab"),
    Refused("6-controls", "carriage return", "/a%0Db"),
    Refused("6-controls", "delete", "/a%7Fb"),
    Refused("6-controls", "C1", "/a%C2%85b"),
    Refused("6-controls", "raw", b"/a\x01b", keeps=False),
    Refused("6-controls", "raw tab", b"/a\tb", keeps=False),
    Refused("6-controls", "raw delete", b"/a\x7fb", keeps=False),
    Refused("6-controls", "raw space", b"/a b", keeps=False),
    Refused("6-undecodable", "no digits", "/a%zz"),
    Refused("6-undecodable", "one digit", "/a%4"),
    Refused("6-undecodable", "nothing", "/a%"),
    Refused("6-undecodable", "second is none", "/a%4x"),
    Refused("6-undecodable", "u", "/a%u0041"),
    Refused("6-undecodable", "signs", "/a%+1"),
    Refused("6-undecodable", "lone byte", "/a%ff"),
    Refused("6-undecodable", "latin-1", "/caf%E9.mp4"),
    Refused("6-undecodable", "surrogate", "/a%ED%A0%80"),
    Refused("6-undecodable", "pair of surrogates", "/%ED%A0%BC%ED%BE%AC.mp4"),
    Refused("6-undecodable", "cut short", "/a%E2%82"),
    Refused("6-undecodable", "overlong slash", "/a%C0%AFb"),
    Refused("6-undecodable", "overlong dots", "/%C0%AE%C0%AE/b"),
    Refused("6-undecodable", "beyond Unicode", "/%F4%90%80%80"),
    Refused("6-undecodable", "raw byte", b"/a\xff", keeps=False),
    Refused("6-dot-segments", "two", "/a/../b"),
    Refused("6-dot-segments", "two, first", "/../b"),
    Refused("6-dot-segments", "two, last", "/a/.."),
    Refused("6-dot-segments", "one", "/a/./b"),
    Refused("6-slashes", "with a dot between", "/x/./y.mp4"),
    Refused("6-dot-segments", "one, last", "/a/."),
    Refused("6-dot-segments", "one, alone", "/."),
    Refused("6-dot-segments", "escaped dots", "/a/%2e%2e/b"),
    Refused("6-dot-segments", "escaped dots, capitals", "/%2E%2E/%2E%2E/etc/passwd"),
    Refused("6-dot-segments", "one dot escaped", "/a/.%2e/b"),
    Refused("6-dot-segments", "escaped slash", "/a/..%2fb"),
    Refused("6-dot-segments", "all escaped", "/a%2f%2e%2e%2fb"),
    Refused("6-dot-segments", "escaped twice", "/a/%252e%252e/b"),
    Refused("6-dot-segments", "slash escaped twice", "/a/..%252fb"),
    Refused("6-dot-segments", "many", "/" + "../" * 20 + "etc/passwd"),
    Refused("6-dot-segments", "absolute form", "http://other.example/a/../b"),
    Refused("6-dot-segments", "with doubled slashes", "/a//..//b"),
    Refused("6-backslash", "raw", b"/a\\b"),
    Refused("6-backslash", "dots and raw", b"/..\\b"),
    Refused("6-backslash", "escaped", "/a%5cb"),
    Refused("6-backslash", "dots and escaped", "/a/..%5C..%5cb"),
    Refused("6-empty", "", "/", 404, "not_found"),
    Refused("6-empty", "with a query", "/?list-type=2", 404, "not_found"),
    Refused("6-empty", "absolute form", "http://films.example", 404, "not_found"),
    Refused("6-empty", "absolute form with a query", "http://films.example?x", 404, "not_found"),
    Refused("6-long", "1025 bytes", "/" + "k" * 1025, 414, "key_too_long"),
    Refused("6-long", "1500 bytes", "/" + "k" * 1500, 414, "key_too_long"),
    Refused("6-long", "1025 bytes escaped", "/" + "%6B" * 1025, 414, "key_too_long"),
    Refused("6-long", "1026 bytes of korean", "/" + "%ED%95%9C" * 342, 414, "key_too_long"),
    Refused("6-long-line", "20 kB", "/" + "k" * 20_000, code="request_too_long", keeps=False),
    Refused(
        "6-long-line",
        "20 kB of query",
        "/film.mp4?" + "k" * 20_000,
        code="request_too_long",
        keeps=False,
    ),
    Refused("6-characters", "raw UTF-8", "/영화.mp4", keeps=False),
    Refused("6-characters", "raw number sign", "/a#b"),
    Refused("6-characters", "raw number sign in a query", "/a?b#c"),
    Refused("6-characters", "another scheme", "ftp://films.example/a"),
    Refused("6-characters", "no slash", "a.mp4", keeps=False),
    Refused("6-characters", "an authority", "films.example:80", keeps=False),
    Refused("6-characters", "an asterisk", "*", keeps=False),
)


@pytest.mark.fault("F1", "F2")
@table([case for case in REFUSED if case.keeps])
def test_what_names_no_key_asks_nobody(films: Site, case: Refused) -> None:
    _refused(films, case)


@pytest.mark.fault("F1", "F2")
@on_our_connections
@table([case for case in REFUSED if not case.keeps])
def test_what_is_no_target_asks_nobody(films: Site, case: Refused) -> None:
    _refused(films, case)


def _refused(films: Site, case: Refused) -> None:
    for method in ("GET", "HEAD"):
        with films.asking() as asked:
            message = request(case.target, "Range: bytes=0-4", method=method)
            # The parser tells HEAD from GET no more, once it has refused the request.
            read_as = method if case.keeps else "GET"
            answer = exchange(films.address, message, method=read_as, keeps=case.keeps)
        check_error(answer, case.status, case.code, method=read_as)
        assert not asked


ALIASES = (
    (b"/a%2Fb", b"/a/b"),
    (b"/%61lias", b"/alias"),
    (b"/a%3bb", b"/a;b"),
    (b"/%ec%98%81", b"/%EC%98%81"),
)


@pytest.mark.parametrize(("one", "other"), ALIASES)
@covers("6-characters")
def test_two_spellings_of_a_key_are_one_object(films: Site, one: bytes, other: bytes) -> None:
    with films.asking() as asked:
        for target in (one, other):
            check_error(exchange(films.address, request(target)), 404, "not_found")
    assert len({seen.key for seen in asked}) == 1
    assert len({seen.path for seen in asked}) == 1


DISTINCT = (
    (b"/a+b", b"/a%20b"),
    (b"/x//y", b"/x/y"),
    (b"/A", b"/a"),
    (b"/f/", b"/f"),
    (b"/a%2525", b"/a%25"),
    (b"/caf%C3%A9", b"/cafe%CC%81"),
)


@pytest.mark.fault("F13")
@pytest.mark.parametrize(("one", "other"), DISTINCT)
@covers("6-characters")
def test_two_keys_are_never_taken_for_one(films: Site, one: bytes, other: bytes) -> None:
    with films.asking() as asked:
        for target in (one, other):
            check_error(exchange(films.address, request(target)), 404, "not_found")
    assert len({seen.key for seen in asked}) == 2
