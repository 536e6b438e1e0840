from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangeserver.config import AccessConfig
from rangeserver.protocol.multipart import body_length
from rangeserver.protocol.preconditions import Conditions, Values
from rangeserver.protocol.ranges import ByteSpan
from rangeserver.protocol.representation import ObjectFacts, ObjectKey
from rangeserver.protocol.response_plan import (
    SANDBOX,
    ObjectRequest,
    PlanRules,
    ResponsePlan,
    plan_response,
)
from rangeserver.protocol.validators import format_http_date

NOW = 1_795_348_800
AGE = 7
MODIFIED = 784_111_777
MODIFIED_TEXT = "Sun, 06 Nov 1994 08:49:37 GMT"
N = 1000
BOUNDARY = "0123456789abcdef0123456789abcdef"
RULES = PlanRules(max_ranges=16, inline_types=AccessConfig().inline_types)
FACTS = ObjectFacts(
    key=ObjectKey("films/film.mp4"),
    size=N,
    etag='"v1"',
    last_modified=MODIFIED,
    content_type="video/mp4",
    content_language="de",
    cache_control="max-age=60, immutable",
    expires="Sun, 06 Nov 2094 08:49:37 GMT",
)
NO_CONDITIONS = Conditions()
EMPTY = replace(FACTS, size=0)
GZIPPED = replace(FACTS, content_encoding="gzip")

VALIDATORS = {
    "Age": str(AGE),
    "ETag": '"v1"',
    "Accept-Ranges": "bytes",
    "Last-Modified": MODIFIED_TEXT,
    "Cache-Control": "max-age=60, immutable",
    "Expires": "Sun, 06 Nov 2094 08:49:37 GMT",
}
WHOLE = VALIDATORS | {
    "Content-Type": "video/mp4",
    "Content-Language": "de",
    "X-Content-Type-Options": "nosniff",
}


def plan(
    facts: ObjectFacts = FACTS,
    /,
    method: str = "GET",
    conditions: Conditions = NO_CONDITIONS,
    *,
    download: str | None = None,
    rules: PlanRules = RULES,
    **lines: str | Values,
) -> ResponsePlan:
    values = {name: (line,) if isinstance(line, str) else line for name, line in lines.items()}
    request = ObjectRequest(method, replace(conditions, **values), download)
    return plan_response(request, facts, rules, now=NOW, age=AGE, new_boundary=lambda: BOUNDARY)


def test_get_is_the_whole_object() -> None:
    assert plan() == ResponsePlan(200, WHOLE, (ByteSpan(0, N),), N)


def test_head_is_the_get_without_its_body() -> None:
    assert plan(method="HEAD") == replace(plan(), body=())


def test_range_is_a_206_with_the_same_fields_and_content_range() -> None:
    expected = WHOLE | {"Content-Range": f"bytes 5-9/{N}"}
    assert plan(range="bytes=5-9") == ResponsePlan(206, expected, (ByteSpan(5, 10),), 5)


PARTIAL = {
    "first byte": ("bytes=0-0", 0, 0),
    "probe": ("bytes=0-1", 0, 1),
    "open": ("bytes=10-", 10, 999),
    "suffix": ("bytes=-5", 995, 999),
    "suffix beyond the size": ("bytes=-5000", 0, 999),
    "clamped": ("bytes=990-5000", 990, 999),
    "whole, closed": ("bytes=0-999", 0, 999),
    "whole, open": ("bytes=0-", 0, 999),
    "whole, too long": ("bytes=0-1004", 0, 999),
    "unit in capitals": ("BYTES=5-9", 5, 9),
    "empty members": ("bytes=,5-9,", 5, 9),
    "one survivor of several": ("bytes=5000-,5-9,-0", 5, 9),
    "several that are joined": ("bytes=0-9,50-59", 0, 59),
}


@pytest.mark.parametrize(("value", "first", "last"), PARTIAL.values(), ids=PARTIAL)
def test_one_range_is_a_plain_206(value: str, first: int, last: int) -> None:
    result = plan(range=value)
    assert result.status == 206
    assert result.headers == WHOLE | {"Content-Range": f"bytes {first}-{last}/{N}"}
    assert result.body == (ByteSpan(first, last + 1),)
    assert result.content_length == last - first + 1


@pytest.mark.parametrize(
    "value", ["bytes=1000-", "bytes=5000-6000", "bytes=-0", "bytes=1000-,-0", "bytes=9-5"]
)
def test_unsatisfiable_range_is_a_416_with_nothing_of_the_object(value: str) -> None:
    assert plan(range=value) == ResponsePlan(416, {"Content-Range": f"bytes */{N}"})


@pytest.mark.parametrize(
    "lines",
    [
        *["bytes=abc", "bytes=", "", "seconds=0-4", "0-4", "bytes=0--1", "bytes=+0-4"],
        *["bytes=0-4,9-5", "bytes=0-4,x", "bytes=0-,1-,2-", "bytes=" + "0-0," * 16 + "1-1"],
        ("bytes=0-4", "bytes=5-9"),
        ("bytes=0-4", "bytes=0-4"),
        ("bytes=5000-", "bytes=0-4"),
    ],
)
def test_ignored_range_is_the_whole_object(lines: str | Values) -> None:
    assert plan(range=lines) == plan()


@pytest.mark.parametrize(
    "value", ["bytes=0-4", "bytes=5000-", "bytes=9-5", "bytes=x", "bytes=0-4,500-504"]
)
def test_range_on_head_is_ignored(value: str) -> None:
    assert plan(method="HEAD", range=value) == plan(method="HEAD")


def test_limit_of_ranges_is_the_operators() -> None:
    two = "bytes=0-4,500-504"
    assert plan(range=two, rules=replace(RULES, max_ranges=2)).status == 206
    assert plan(range=two, rules=replace(RULES, max_ranges=1)) == plan()


def test_several_ranges_are_a_multipart_in_the_asked_order() -> None:
    result = plan(range="bytes=500-504,0-4")
    assert result.status == 206
    assert result.headers == WHOLE | {"Content-Type": f"multipart/byteranges; boundary={BOUNDARY}"}
    head = f"--{BOUNDARY}\r\nContent-Type: video/mp4\r\nContent-Range: bytes "
    assert result.body == (
        f"{head}500-504/{N}\r\n\r\n".encode(),
        ByteSpan(500, 505),
        f"\r\n{head}0-4/{N}\r\n\r\n".encode(),
        ByteSpan(0, 5),
        f"\r\n--{BOUNDARY}--\r\n".encode(),
    )
    assert result.content_length == body_length(result.body)


@pytest.mark.parametrize(
    "value", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-9", "bytes=9-5", "bytes=0--1"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_empty_object_is_a_200_whatever_the_range(method: str, value: str) -> None:
    assert plan(EMPTY, method, range=value) == ResponsePlan(200, WHOLE, (), 0)
    assert plan(EMPTY, method) == ResponsePlan(200, WHOLE, (), 0)


def test_content_coding_is_passed_on_and_ranges_count_stored_bytes() -> None:
    assert plan(GZIPPED).headers == WHOLE | {"Content-Encoding": "gzip"}
    one = plan(GZIPPED, range="bytes=5-9")
    assert one.headers["Content-Encoding"] == "gzip"
    assert one.headers["Content-Range"] == f"bytes 5-9/{N}"


def test_several_ranges_of_a_coded_object_are_ignored() -> None:
    assert plan(GZIPPED, range="bytes=0-4,500-504") == plan(GZIPPED)
    assert plan(GZIPPED, range="bytes=0-4,10-14").status == 206
    assert plan(GZIPPED, range="bytes=5000-,6000-").status == 416


# Preconditions, and what beats what.

RANGES = {
    "no range": (),
    "range": ("bytes=0-4",),
    "unsatisfiable": ("bytes=5000-",),
    "reversed": ("bytes=9-5",),
    "malformed": ("bytes=x",),
}
each_range = pytest.mark.parametrize("range_lines", RANGES.values(), ids=RANGES)
each_method = pytest.mark.parametrize("method", ["GET", "HEAD"])


@each_range
@each_method
@pytest.mark.parametrize(
    "conditions",
    [Conditions(if_none_match=('"v1"',)), Conditions(if_modified_since=(MODIFIED_TEXT,))],
    ids=["tag", "date"],
)
def test_304_beats_206_and_416_and_repeats_the_cache_fields(
    method: str, range_lines: Values, conditions: Conditions
) -> None:
    assert plan(FACTS, method, conditions, range=range_lines) == ResponsePlan(304, VALIDATORS)


@each_range
@each_method
@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(if_match=('"v2"',)),
        Conditions(if_unmodified_since=(format_http_date(MODIFIED - 1),)),
    ],
    ids=["tag", "date"],
)
def test_412_beats_everything_and_has_nothing_of_the_object(
    method: str, range_lines: Values, conditions: Conditions
) -> None:
    result = plan(
        FACTS, method, conditions, range=range_lines, if_none_match='"v1"', if_range='"v1"'
    )
    assert result == ResponsePlan(412, {})


FALSE_IF_RANGES = {
    "other tag": '"v2"',
    "weak": 'W/"v1"',
    "list": '"v1", "v1"',
    "star": "*",
    "bare tag": "v1",
    "garbage": "yesterday",
    "nothing": "",
    "later date": format_http_date(MODIFIED + 1),
    "earlier date": format_http_date(MODIFIED - 1),
}


@each_range
@pytest.mark.parametrize("if_range", FALSE_IF_RANGES.values(), ids=FALSE_IF_RANGES)
def test_false_if_range_hides_any_range(range_lines: Values, if_range: str) -> None:
    assert plan(range=range_lines, if_range=if_range) == plan()


@each_range
@pytest.mark.parametrize("if_range", ['"v1"', MODIFIED_TEXT], ids=["tag", "date"])
def test_true_if_range_changes_nothing(range_lines: Values, if_range: str) -> None:
    assert plan(range=range_lines, if_range=if_range) == plan(range=range_lines)


@pytest.mark.parametrize("if_range", ['"v1"', '"v2"', "garbage"])
def test_if_range_without_range_is_ignored(if_range: str) -> None:
    assert plan(if_range=if_range) == plan()


def test_if_range_with_several_ranges() -> None:
    several = "bytes=0-4,500-504"
    assert plan(range=several, if_range='"v1"') == plan(range=several)
    assert plan(range=several, if_range='"v2"') == plan()


def test_true_conditions_let_a_range_through() -> None:
    result = plan(range="bytes=0-4", if_match='"v1"', if_none_match='"v2"', if_range='"v1"')
    assert result == plan(range="bytes=0-4")


# Header fields.


def test_fields_the_object_lacks_are_absent() -> None:
    bare = ObjectFacts(ObjectKey("a.mp4"), N, '"v1"')
    assert plan(bare).headers == {
        "Age": str(AGE),
        "ETag": '"v1"',
        "Accept-Ranges": "bytes",
        "Content-Type": "video/mp4",
        "X-Content-Type-Options": "nosniff",
    }
    assert plan(bare, if_none_match="*").headers == {
        "Age": str(AGE),
        "ETag": '"v1"',
        "Accept-Ranges": "bytes",
    }


def test_entity_tag_is_passed_on_unchanged() -> None:
    assert plan(replace(FACTS, etag='W/"v1"')).headers["ETag"] == 'W/"v1"'
    assert plan(replace(FACTS, etag='"md5-38"')).headers["ETag"] == '"md5-38"'


@pytest.mark.parametrize(("ahead", "expected"), [(-1, NOW - 1), (0, NOW), (1, NOW), (3600, NOW)])
def test_last_modified_is_never_later_than_date(ahead: int, expected: int) -> None:
    result = plan(replace(FACTS, last_modified=NOW + ahead))
    assert result.headers["Last-Modified"] == format_http_date(expected)


def test_active_type_is_a_sandboxed_download() -> None:
    page = replace(FACTS, key=ObjectKey("a/page.html"), content_type="text/html")
    headers = plan(page).headers
    assert headers["Content-Type"] == "text/html"
    assert headers["Content-Security-Policy"] == SANDBOX
    assert headers["Content-Disposition"] == 'attachment; filename="page.html"'
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_active_type_by_extension_is_a_sandboxed_download() -> None:
    page = replace(FACTS, key=ObjectKey("a/drawing.svg"), content_type=None)
    headers = plan(page).headers
    assert headers["Content-Type"] == "image/svg+xml"
    assert headers["Content-Security-Policy"] == SANDBOX
    assert headers["Content-Disposition"] == 'attachment; filename="drawing.svg"'


def test_active_type_the_operator_allows_is_shown() -> None:
    page = replace(FACTS, content_type="text/html")
    assert plan(page, rules=replace(RULES, inline_types=("text/html",))).headers == WHOLE | {
        "Content-Type": "text/html"
    }


DISPOSITIONS: dict[str, tuple[str, str, str | None, str | None, str | None]] = {
    # key, media type, stored disposition, ?download, expected
    "nothing": ("a/b.mp4", "video/mp4", None, None, None),
    "stored": ("k", "video/mp4", 'inline; filename="b.mp4"', None, 'inline; filename="b.mp4"'),
    "stored attachment": ("k", "video/mp4", "attachment", None, "attachment"),
    "stored, of another kind": ("k", "video/mp4", "form-data; name=x", None, None),
    "download": ("a/b.mp4", "video/mp4", None, "", 'attachment; filename="b.mp4"'),
    "download as": ("a/b.mp4", "video/mp4", None, "c.mp4", 'attachment; filename="c.mp4"'),
    "download as a path": ("k", "video/mp4", None, "../c.mp4", 'attachment; filename="c.mp4"'),
    "download as nothing usable": (
        "a/b.mp4",
        "video/mp4",
        None,
        "..",
        'attachment; filename="b.mp4"',
    ),
    "download and header injection": (
        "k",
        "video/mp4",
        None,
        "c\r\nX: y",
        'attachment; filename="cX: y"',
    ),
    "download, non-ASCII": (
        "ф.mp4",
        "video/mp4",
        None,
        "",
        "attachment; filename=\"_.mp4\"; filename*=UTF-8''%D1%84.mp4",
    ),
    "download beats stored": (
        "b.mp4",
        "video/mp4",
        "inline; filename=x",
        "",
        'attachment; filename="b.mp4"',
    ),
    "folder has no name": ("a/", "video/mp4", None, "", "attachment"),
    "active": ("a/b.pdf", "application/pdf", None, None, 'attachment; filename="b.pdf"'),
    "active, stored inline": (
        "b.pdf",
        "application/pdf",
        "inline",
        None,
        'attachment; filename="b.pdf"',
    ),
    "active keeps its stored name": (
        "4f1c",
        "application/pdf",
        'inline; filename="b.pdf"',
        None,
        'attachment; filename="b.pdf"',
    ),
    "active, download as": (
        "4f1c",
        "application/pdf",
        'inline; filename="b.pdf"',
        "c.pdf",
        'attachment; filename="c.pdf"',
    ),
}


@pytest.mark.parametrize(
    ("key", "content_type", "stored", "download", "expected"),
    DISPOSITIONS.values(),
    ids=DISPOSITIONS,
)
@pytest.mark.parametrize("value", [(), ("bytes=0-4",)], ids=["whole", "range"])
def test_disposition(
    key: str,
    content_type: str,
    stored: str | None,
    download: str | None,
    expected: str | None,
    value: Values,
) -> None:
    facts = replace(
        FACTS, key=ObjectKey(key), content_type=content_type, content_disposition=stored
    )
    result = plan(facts, download=download, range=value)
    assert result.headers.get("Content-Disposition") == expected


# Whatever is asked of whatever object.

safe_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30)
maybe_text = st.one_of(st.none(), safe_text)
all_facts = st.builds(
    ObjectFacts,
    key=st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20).map(ObjectKey),
    size=st.one_of(st.integers(0, 2000), st.integers(0, 5 * 2**40)),
    etag=st.sampled_from(['"v1"', 'W/"v1"', '"v2"']),
    last_modified=st.one_of(st.none(), st.integers(MODIFIED, MODIFIED + 1)),
    content_type=st.one_of(maybe_text, st.sampled_from(["video/mp4", "text/html"])),
    content_encoding=st.sampled_from([None, "gzip"]),
    content_language=maybe_text,
    content_disposition=st.one_of(
        st.none(), st.text(), safe_text.map("inline; filename={}".format)
    ),
    cache_control=maybe_text,
    expires=maybe_text,
)
tag_lines = st.lists(st.sampled_from(['"v1"', 'W/"v1"', '"v2"', "*", "x"]), max_size=1).map(tuple)
date_lines = st.lists(
    st.sampled_from([format_http_date(MODIFIED + n) for n in (-1, 0, 1)] + ["x"]), max_size=1
).map(tuple)
range_values = st.one_of(
    st.lists(
        st.tuples(st.integers(0, 2100), st.integers(0, 300)).map(lambda t: f"{t[0]}-{sum(t)}"),
        min_size=1,
        max_size=5,
    ).map(lambda members: "bytes=" + ",".join(members)),
    st.text(max_size=10),
)
all_conditions = st.builds(
    Conditions,
    if_match=tag_lines,
    if_none_match=tag_lines,
    if_modified_since=date_lines,
    if_unmodified_since=date_lines,
    if_range=st.one_of(tag_lines, date_lines),
    range=st.lists(range_values, max_size=2).map(tuple),
)


@given(
    method=st.sampled_from(["GET", "GET", "HEAD"]),
    conditions=all_conditions,
    facts=all_facts,
    download=st.one_of(st.none(), st.text(st.characters(codec=None))),
)
def test_every_plan_keeps_the_rules_of_http(
    method: str, conditions: Conditions, facts: ObjectFacts, download: str | None
) -> None:
    boundaries: list[str] = []

    def new_boundary() -> str:
        boundaries.append(BOUNDARY)
        return BOUNDARY

    def planned(method: str, conditions: Conditions) -> ResponsePlan:
        request = ObjectRequest(method, conditions, download)
        return plan_response(request, facts, RULES, now=NOW, age=AGE, new_boundary=new_boundary)

    result = planned(method, conditions)
    whole = planned("GET", Conditions())
    multipart = result.headers.get("Content-Type", "").startswith("multipart/byteranges; b")
    assert len(boundaries) == multipart
    for value in result.headers.values():
        assert value
        assert all(" " <= character <= "~" for character in value)
    spans = [part for part in result.body if isinstance(part, ByteSpan)]
    assert all(0 <= span.start < span.stop <= facts.size for span in spans)
    ranged = ("Content-Range" in result.headers) + multipart
    match result.status:
        case 200:
            assert not ranged
            assert result.headers == whole.headers
            assert result.content_length == facts.size
            assert spans == ([ByteSpan(0, facts.size)] if method == "GET" and facts.size else [])
        case 206:
            assert method == "GET"
            assert ranged == 1
            changed = result.headers.items() ^ whole.headers.items()
            assert {name for name, _ in changed} <= {"Content-Range", "Content-Type"}
            assert result.content_length == body_length(result.body)
            assert len(spans) > 1 if multipart else result.body == tuple(spans)
        case 304:
            assert result.body == ()
            assert result.content_length is None
            assert result.headers.items() <= whole.headers.items()
            assert "Content-Type" not in result.headers
        case 412 | 416:
            assert result.body == ()
            assert result.headers == (
                {"Content-Range": f"bytes */{facts.size}"} if result.status == 416 else {}
            )
        case other:
            pytest.fail(f"status {other}")
    if method == "GET":
        unranged = replace(conditions, range=())
        head = planned("HEAD", conditions)
        assert head == replace(planned("GET", unranged), body=())
