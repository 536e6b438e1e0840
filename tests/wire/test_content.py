"""Wire table, section 5, what an answer says of the object's content."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.fakes import faults
from tests.wire.film import FILM, TARGET
from tests.wire.http import check_error, exchange, request
from tests.wire.running import Site
from tests.wire.table import covers, table

SANDBOX = "default-src 'none'; sandbox"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object and the type that its answers have; ``shown``: in place, and not as a download."""

    row: str
    what: str
    key: str
    stored: dict[str, str] = field(default_factory=dict)
    content_type: str = "video/mp4"
    shown: bool = True


TYPES = [
    Stored("5-content-type", "its own", "typed.bin", {"Content_Type": "video/webm"}, "video/webm"),
    Stored("5-content-type", "none", "typed.mp4", {"Content_Type": ""}),
    Stored(
        "5-content-type",
        "none that says more",
        "typed.mp4",
        {"Content_Type": "binary/octet-stream"},
    ),
    Stored(
        "5-content-type", "none either", "typed.mp4", {"Content_Type": "application/octet-stream"}
    ),
    Stored(
        "5-inline-types", "HTML", "typed", {"Content_Type": "text/html"}, "text/html", shown=False
    ),
    Stored(
        "5-inline-types",
        "SVG",
        "typed",
        {"Content_Type": "image/svg+xml"},
        "image/svg+xml",
        shown=False,
    ),
    Stored(
        "5-inline-types",
        "PDF",
        "typed",
        {"Content_Type": "application/pdf"},
        "application/pdf",
        shown=False,
    ),
    Stored("5-inline-types", "unknown", "typed", {"Content_Type": "x/y"}, "x/y", shown=False),
    Stored("5-inline-types", "a picture", "typed", {"Content_Type": "image/png"}, "image/png"),
]


@table(TYPES)
def test_the_type_of_an_object(films: Site, case: Stored) -> None:
    films.origin.put(case.key, FILM, **case.stored)
    for method in ("GET", "HEAD"):
        answer = exchange(films.address, request(f"/{case.key}", method=method), method=method)
        assert answer.status == 200
        assert answer.fields["content-type"] == case.content_type
        attached = answer.fields.get("content-disposition", "").startswith("attachment")
        assert attached is not case.shown
        assert (answer.fields.get("content-security-policy") == SANDBOX) is not case.shown


@covers("5-nosniff")
def test_no_type_is_guessed(films: Site) -> None:
    for message, status in (
        (request(TARGET), 200),
        (request(TARGET, "Range: bytes=0-9"), 206),
        (request(TARGET, "If-None-Match: *"), 304),
        (request("/absent"), 404),
    ):
        answer = exchange(films.address, message)
        assert answer.status == status
        assert answer.fields["x-content-type-options"] == "nosniff"


@covers("5-metadata")
def test_metadata_stays_inside(films: Site) -> None:
    films.origin.put(
        "named.mp4",
        FILM,
        Content_Disposition='inline; filename="a.mp4"; x=y',
        x_amz_meta_owner="not for clients",
    )
    answer = exchange(films.address, request("/named.mp4"))
    assert answer.fields["content-disposition"] == 'inline; filename="a.mp4"'
    assert not [name for name in answer.fields if name.startswith("x-amz")]


@covers("5-age")
def test_what_has_just_been_asked_for_is_no_second_old(films: Site) -> None:
    for fields, status in (((), 200), (("Range: bytes=0-9",), 206), (("If-None-Match: *",), 304)):
        answer = exchange(films.address, request(TARGET, *fields))
        assert (answer.status, answer.fields["age"]) == (status, "0")
    films.origin.put("old.mp4", FILM, Age="60")
    assert exchange(films.address, request("/old.mp4")).fields["age"] == "60"
    assert exchange(films.address, request("/absent")).lacks("Age")


@covers("2-content-encoding")
def test_no_parts_of_what_is_stored_in_a_coding(films: Site) -> None:
    """Part and whole could be told apart by nobody who decodes them."""
    films.origin.put("packed.mp4", FILM, Content_Encoding="gzip")
    answer = exchange(films.address, request("/packed.mp4", "Range: bytes=0-9,500-509"))
    assert (answer.status, answer.body) == (200, FILM)
    assert answer.fields["content-encoding"] == "gzip"


@covers("6-refused-by-the-store")
def test_a_key_that_the_store_refuses_by_its_name_is_not_found(films: Site) -> None:
    films.origin.misbehave(faults.error(400, "InvalidArgument"), key="odd", method=None)
    for method in ("GET", "HEAD"):
        answer = exchange(films.address, request("/odd", method=method), method=method)
        check_error(answer, 404, "not_found", method=method)
    assert exchange(films.address, request(TARGET)).status == 200
