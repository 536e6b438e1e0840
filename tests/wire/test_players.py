"""Wire table, section 8: what players and tools send, in their order, each on one connection."""

from __future__ import annotations

from dataclasses import dataclass

from tests.wire.film import (
    ETAG,
    FILM,
    SIZE,
    TARGET,
    Expected,
    Part,
    Parts,
    Unsatisfiable,
    Whole,
    check_film,
)
from tests.wire.http import Wire, request
from tests.wire.running import Site
from tests.wire.table import covers, table


@dataclass(frozen=True, slots=True)
class Row:
    """A client, and its requests with what it needs in return."""

    row: str
    what: str
    story: tuple[tuple[tuple[str, ...], Expected], ...]


def ranged(value: str, *more: str) -> tuple[str, ...]:
    return (f"Range: bytes={value}", *more)


PDF = ("0-99", "400-499", "1000-1099", "2000-2099", "3000-3099", "9000-9099", "8000-8009", "-10")
PDF_SPANS = (
    (0, 100), (400, 500), (1000, 1100), (2000, 2100), (3000, 3100), (9000, 9100), (8000, 8010),
    (9990, SIZE),
)  # fmt: skip

ROWS = (
    Row(
        "8-safari",
        "",
        (
            (ranged("0-1"), Part(0, 2)),
            (ranged("0-9999"), Part(0, SIZE)),
            (ranged("-1024"), Part(SIZE - 1024, SIZE)),
            (ranged("2-4095"), Part(2, 4096)),
            (ranged("4096-9999"), Part(4096, SIZE)),
        ),
    ),
    Row(
        "8-chrome",
        "",
        (
            (ranged("0-"), Part(0, SIZE)),
            (ranged("6000-", f"If-Range: {ETAG}"), Part(6000, SIZE)),
            (ranged("9999-", f"If-Range: {ETAG}"), Part(9999, SIZE)),
            (ranged("6000-", 'If-Range: "an older version"'), Whole()),
        ),
    ),
    Row(
        "8-if-match",
        "",
        (
            (ranged("0-1023", f"If-Match: {ETAG}"), Part(0, 1024)),
            (ranged("1024-", f"If-Match: {ETAG}"), Part(1024, SIZE)),
        ),
    ),
    Row(
        "8-gstreamer",
        "",
        (
            (ranged("0-"), Part(0, SIZE)),
            (ranged("1-"), Part(1, SIZE)),
            (ranged("5000-", "Connection: keep-alive", "icy-metadata: 1"), Part(5000, SIZE)),
            (ranged("0-9999999"), Part(0, SIZE)),
        ),
    ),
    Row("8-resume", "complete", ((ranged("10000-"), Unsatisfiable()),)),
    Row("8-resume", "half", ((ranged("5000-"), Part(5000, SIZE)),)),
    Row("8-many-ranges", "", ((ranged(", ".join(PDF)), Parts(PDF_SPANS)),)),
    Row(
        "8-many-ranges",
        "too many",
        ((ranged(",".join(f"{n * 300}-{n * 300}" for n in range(30))), Whole()),),
    ),
    Row(
        "8-part-wise",
        "smaller than a part",
        ((ranged("0-8388607"), Part(0, SIZE)), (ranged("8388608-16777215"), Unsatisfiable())),
    ),
)


@table(ROWS)
def test_client(films: Site, case: Row) -> None:
    with Wire(films.address) as wire:
        for fields, expected in case.story:
            wire.send(request(TARGET, *fields))
            check_film(wire.read_answer(), expected)
        wire.finish_sending()
        wire.expect_end()


@dataclass(frozen=True, slots=True)
class Empty:
    """A client that meets an object without a byte."""

    row: str
    what: str
    value: str


@table([Empty("8-naive", "", "0--1"), Empty("8-part-wise", "nothing at all", "0-8388607")])
def test_client_and_the_empty_object(films: Site, case: Empty) -> None:
    with Wire(films.address) as wire:
        wire.send(request("/empty.bin", f"Range: bytes={case.value}"))
        answer = wire.read_answer()
        assert (answer.status, answer.body) == (200, b"")


@covers("8-resume")
def test_a_download_in_pieces_is_the_object(films: Site) -> None:
    """As curl -C - does: each piece begins where the last one ended, until there is no more."""
    got = b""
    with Wire(films.address) as wire:
        while True:
            wire.send(request(TARGET, f"Range: bytes={len(got)}-{len(got) + 3332}"))
            answer = wire.read_answer()
            if answer.status == 416:
                break
            assert answer.status == 206
            assert answer.body
            got += answer.body
    assert got == FILM
    assert answer.fields["content-range"] == f"bytes */{len(got)}"
